"""Runs cases without nandoctor: does the sick program fail, does its twin train? `python -m clinic.verify [PART]`

A case counts only if both hold. Results are kept in clinic/verified.json by the hash of the program's text and the
version of torch, so that a repeat costs nothing.
"""

import argparse
import json
import math
import re
import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from clinic.cases import CLINIC, BadCase, Case, cases, digest
from clinic.forkserver import Servers

LOST = 0.25  # share of the twin's progress that a sick run has to lose
FELL = 0.9  # a twin trains if its loss ends below this share of its start
TIMEOUT = 120
SERVERS = Servers(2)
KEPT = CLINIC / "verified.json"
FINAL = re.compile(r"^final\b.*?(-?\d+(?:\.\d+)?(?:e[+-]?\d+)?|nan|-?inf)\s*$", re.MULTILINE | re.IGNORECASE)


@dataclass(frozen=True)
class Outcome:
    """How one plain run went."""

    exit_code: int
    final: float | None  # the number on its last line that begins with "final"
    first: float | None  # mean of the first three losses that backward was called on
    last: float | None  # mean of the last tenth of them
    bad: str  # the first of loss, gradient, weight that was not finite as it was used; "" if none
    seconds: float
    error: str
    bad_step: int | None = None  # optimizer steps before that

    @property
    def broke(self) -> bool:
        return bool(self.bad) or self.exit_code != 0 or self.final is None or not math.isfinite(self.final)


def plain(program: str) -> Outcome:
    """One run in a folder of its own, on one thread."""
    with tempfile.TemporaryDirectory() as folder:
        script, report = Path(folder, "train.py"), Path(folder, "watched.json")
        out, err = Path(folder, "stdout"), Path(folder, "stderr")
        script.write_text(program, encoding="utf-8")
        code = SERVERS.run(
            mode="plain", script=str(script), stdout=str(out), stderr=str(err), timeout=TIMEOUT,
            environment={"CLINIC_REPORT": str(report)},
        )  # fmt: skip
        seen = json.loads(report.read_text()) if report.exists() else {}
        found = FINAL.findall(out.read_text(errors="replace"))
        return Outcome(
            code, float(found[-1]) if found else None, seen.get("first"), seen.get("last"), seen.get("bad", ""),
            round(seen.get("seconds", 0.0), 1), _last_line(err.read_text(errors="replace")), seen.get("bad_step"),
        )  # fmt: skip


def _last_line(said: str) -> str:
    """What a traceback ends with, without the paths of this machine."""
    lines = said.strip().splitlines()
    return re.sub(r"(/[^\s'\"]+)+", "<path>", lines[-1][:200]) if lines else ""


class Kept:
    """Outcomes by program and torch version."""

    def __init__(self) -> None:
        self.torch = version("torch").partition("+")[0]
        self.known = self._read()

    def outcome(self, program: str) -> Outcome:
        key = f"{digest(program)}-{self.torch}"
        known = self.known.get(key)
        if known is None:
            known = self.known[key] = asdict(plain(program))
            self._add(key, known)
        return Outcome(**known)

    def _read(self) -> dict[str, dict[str, object]]:
        return json.loads(KEPT.read_text()) if KEPT.exists() else {}

    def _add(self, key: str, outcome: dict[str, object]) -> None:
        import fcntl

        with KEPT.with_suffix(".lock").open("w") as lock:  # several people verify at once
            fcntl.flock(lock, fcntl.LOCK_EX)
            everything = self._read() | {key: outcome}
            draft = KEPT.with_suffix(".draft")
            draft.write_text(json.dumps(everything, indent=0, sort_keys=True) + "\n")
            draft.replace(KEPT)


def complaint(case: Case, kept: Kept) -> str:
    """Why this case does not count; "" if it does."""
    try:
        return _complaint(case, kept)
    except BadCase as error:
        return str(error)


def _complaint(case: Case, kept: Kept) -> str:
    if case.cause == "healthy":
        return healthy(kept.outcome(case.sick))
    twin = kept.outcome(case.twin)
    why = healthy(twin)
    if why:
        return f"the twin {why}"
    sick = kept.outcome(case.sick)
    if sick.broke:
        return ""
    assert sick.final is not None and twin.final is not None and twin.first is not None
    progress = twin.first - (twin.last if twin.last is not None else twin.final)
    lost = sick.final - twin.final
    if lost > LOST * abs(progress):
        return ""
    return f"the sick one does not fail: final {sick.final:.4g}, the twin's {twin.final:.4g} from {twin.first:.4g}"


def healthy(run: Outcome) -> str:
    if run.broke:
        return f"is not sound: exit {run.exit_code}, bad {run.bad or 'nothing'}, final {run.final} {run.error[-200:]}"
    if run.first is None or run.last is None or not run.last < run.first - (1 - FELL) * abs(run.first):
        return f"does not train: loss {run.first} -> {run.last}"
    return ""


def verified(chosen: Iterable[Case], jobs: int) -> list[tuple[Case, str]]:
    kept = Kept()
    with ThreadPoolExecutor(jobs) as pool:
        chosen = list(chosen)
        return list(zip(chosen, pool.map(lambda case: complaint(case, kept), chosen), strict=True))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", help="parts of an id, all of which it must hold")
    parser.add_argument("--jobs", type=int, default=1)
    arguments = parser.parse_args()
    parts = arguments.parts or [""]
    chosen = [case for case in cases() if all(part in case.id for part in parts)]
    results = verified(chosen, arguments.jobs)
    kept = Kept()
    for case, why in results:
        if isinstance(why, str) and "occurs" in why:
            print(f"BAD {case.id}: {why}")
            continue
        run = kept.outcome(case.sick)
        print(f"{'ok ' if not why else 'BAD'} {case.id:60} {case.cause:24} {run.seconds:5.1f} s "
              f"bad={run.bad or '-':9} final={run.final}  {why}")  # fmt: skip
    print(f"{sum(not why for _, why in results)} of {len(results)} count")
    return int(any(why for _, why in results))


if __name__ == "__main__":
    sys.exit(main())
