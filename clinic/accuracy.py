"""How often is the verdict right? `make accuracy`, or `python -m clinic.accuracy [--half tune] [PART OF AN ID]`.

Every case that counts (clinic/verify.py) is recorded as a user would record it, under names that say nothing, then
diagnosed: the sick program and its healthy twin. Interrupted, it goes on where it was. A full run over a half appends
one line to clinic/scores.csv and writes docs/accuracy.md and its picture.
"""

import argparse
import csv
import hashlib
import json
import random
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date

from clinic import frozen, recorded, report
from clinic.cases import CLINIC, HALVES, Case, cases
from clinic.equivalents import right
from clinic.verify import Kept, complaint

SCORES = CLINIC / "scores.csv"
DRAWN = 1  # seed of a sample


@dataclass(frozen=True)
class Result:
    """One recorded program."""

    case: Case
    planted: str
    found: dict[str, object]  # the JSON of `nandoctor diagnose`
    strict: bool
    accepted: bool
    step: int | None  # of the first non-finite loss, gradient or weight, seen without nandoctor

    @property
    def verdict(self) -> str:
        return str(self.found["verdict"])

    @property
    def confidence(self) -> float:
        findings = self.found["findings"]
        assert isinstance(findings, list)
        return float(findings[0]["confidence"]) if findings else 0.0

    @property
    def top3(self) -> bool:
        findings = self.found["findings"]
        assert isinstance(findings, list)
        return self.accepted or self.planted in [f["cause"] for f in findings[:3]]


def diagnosed(program: str) -> dict[str, object]:
    """The JSON of `nandoctor diagnose` on the program's trace; a program that left none is said to be unknown."""
    from nandoctor.errors import UserError
    from nandoctor.notebook import diagnose
    from nandoctor.report.json import document, strict

    trace = recorded.trace(program)
    if trace is None:
        return {"verdict": "unknown", "findings": [], "first_nonfinite": None, "not_seen": ["no trace"]}
    try:
        return json.loads(json.dumps(strict(document(diagnose(trace)))))
    except UserError as error:
        return {"verdict": "unknown", "findings": [], "first_nonfinite": None, "not_seen": [str(error)]}


def measure(case: Case, twin: bool, kept: Kept) -> Result:
    program = case.twin if twin else case.sick
    planted = "healthy" if twin else case.cause
    found = diagnosed(program)
    accepted = right(case, planted, found, kept)
    return Result(case, planted, found, found["verdict"] == planted, accepted, kept.outcome(program).bad_step)


def measured(chosen: list[Case], jobs: int) -> list[Result]:
    """All of them, with a line of progress on stderr."""
    kept = Kept()
    work = [(case, twin) for case in chosen for twin in ((False,) if case.cause == "healthy" else (False, True))]
    results: list[Result] = []
    with ThreadPoolExecutor(jobs) as pool:
        for number, result in enumerate(pool.map(lambda pair: measure(*pair, kept), work), 1):
            results.append(result)
            wrong = sum(not r.accepted for r in results)
            print(f"\r{number}/{len(work)} recorded and diagnosed, {wrong} wrong ", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return results


def counting(half: str, part: str, sample: int | None, jobs: int) -> list[Case]:
    """The cases whose sick program fails and whose twin trains."""
    kept = Kept()
    chosen = [case for case in cases(None, part) if case.counts_as == half]
    if sample is not None:
        random.Random(DRAWN).shuffle(chosen)
        chosen = chosen[:sample]
    with ThreadPoolExecutor(jobs) as pool:
        why = list(pool.map(lambda case: complaint(case, kept), chosen))
    return [case for case, reason in zip(chosen, why, strict=True) if not reason]


def keep(half: str, sample: int | None, results: list[Result]) -> None:
    """One line more in the table of scores."""
    half_named = half if sample is None else f"{half} (sample of {sample} cases)"
    sick = [r for r in results if r.planted != "healthy"]
    sound = [r for r in results if r.planted == "healthy"]
    row = {
        "date": date.today().isoformat(), "commit": _commit(), "half": half_named,
        "corpus": frozen.digest_of(half)[:12],
        "sick": len(sick), "strict": sum(r.strict for r in sick), "accepted": sum(r.accepted for r in sick),
        "healthy": len(sound), "called_healthy": sum(r.strict for r in sound),
        "ece": f"{report.ece(results):.3f}", "auroc": f"{report.auc(results) or float('nan'):.3f}",
    }  # fmt: skip
    new = not SCORES.exists()
    with SCORES.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(row))
        if new:
            writer.writeheader()
        writer.writerow(row)


def _commit() -> str:
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=CLINIC, capture_output=True, text=True)
    changed = subprocess.run(["git", "diff", "HEAD", "--", "../nandoctor"], cwd=CLINIC, capture_output=True)
    mark = "+" + hashlib.sha256(changed.stdout).hexdigest()[:4] if changed.stdout else ""
    return done.stdout.strip() + mark


def options(description: str) -> argparse.ArgumentParser:
    """Which cases of which half."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("part", nargs="?", default="", help="only cases whose id holds this")
    parser.add_argument("--half", choices=HALVES, default="reported")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--sample", type=int, help="only so many cases, drawn at random (the same ones each time)")
    return parser


def asked_for(arguments: argparse.Namespace) -> list[Case]:
    """The cases that count; the reported half must be as it was frozen."""
    if arguments.half == "reported":
        frozen.check()
    return counting(arguments.half, arguments.part, arguments.sample, arguments.jobs)


def main() -> int:
    parser = options(__doc__.splitlines()[0])
    arguments = parser.parse_args()
    found = asked_for(arguments)
    if not found:
        parser.error("no case of that name counts")
    results = measured(found, arguments.jobs)
    print(report.table(results))
    if not arguments.part:
        keep(arguments.half, arguments.sample, results)
        report.write(arguments.half, results)
    counts = Counter(r.accepted for r in results)
    return int(counts[False] > 0)


if __name__ == "__main__":
    sys.exit(main())
