"""Does active mode cure? `make cure`, or `python -m clinic.cure [--each N] [--seeds N] [--healthy N] [--only CAUSE]`.

For each cause that a treatment at run time can help (fixed before anything was measured), N sick programs are drawn,
and each runs under several seeds: plain, under `record --active`, under what people do without a diagnosis
(opponents.py) and under the documents' ladder; its healthy twin runs plain. Survives: it ends with a finite loss and
finite weights, and the weights moved at most steps. Recovers: the final loss is within 10 % of the twins' 90th
percentile.
"""

import argparse
import json
import math
import os
import random
import sys
import tempfile
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from clinic.accuracy import DRAWN
from clinic.cases import CLINIC, HALVES, Case, cases
from clinic.figures import wilson
from clinic.opponents import OPPONENTS
from clinic.verify import FINAL, SERVERS, TIMEOUT, Kept, complaint

CAUSES = (
    "lr-too-high", "exploding-gradients", "data-outlier", "bad-input-data", "batchnorm-tiny-batch", "fp16-overflow",
    "fp16-underflow", "amp-misuse", "masked-softmax", "unsafe-op", "optimizer-epsilon", "gradient-accumulation-bug",
    "bad-initialization",
)  # fmt: skip
ACTIVE, LADDER, PLAIN = "nandoctor --active", "documents' ladder", "plain"
VARIANTS = (PLAIN, ACTIVE, LADDER, *OPPONENTS)
MOVED = 0.5  # of the steps: leaving out every step is not survival
WITHIN = 0.1
APART = 1000  # between the seeds of one program
HOUSE = CLINIC.parent / "nandoctor"
DOCUMENT = CLINIC.parent / "docs" / "cure.md"


@dataclass(frozen=True)
class Ended:
    final: float | None
    finite: bool
    moved: float
    steps: int
    actions: int = 0
    weights: str = ""  # equal only where every bit is

    @property
    def survived(self) -> bool:
        return self.final is not None and math.isfinite(self.final) and self.finite and self.moved >= MOVED


def run(program: str, variant: str) -> Ended:
    with tempfile.TemporaryDirectory() as folder:
        script, report, out = Path(folder, "train.py"), Path(folder, "report.json"), Path(folder, "stdout")
        script.write_text(program, encoding="utf-8")
        environment = {"CLINIC_REPORT": str(report)}
        if variant in OPPONENTS:
            environment["CLINIC_OPPONENT"] = variant
        if variant in (ACTIVE, LADDER):
            environment |= {
                "NANDOCTOR_HOME": str(HOUSE), "NANDOCTOR_OUTPUT": os.path.join(folder, "run.parquet"),
                "NANDOCTOR_SESSION": "x", "NANDOCTOR_MARKS": folder, "NANDOCTOR_COMMAND": '["python", "train.py"]',
                "NANDOCTOR_ACTIVE": "1", "NANDOCTOR_LADDER": "documents" if variant == LADDER else "measured",
            }  # fmt: skip
        SERVERS.run(
            mode="treated" if variant in (ACTIVE, LADDER) else "opposed", script=str(script), home=str(HOUSE),
            environment=environment, timeout=2 * TIMEOUT, stdout=str(out), stderr=str(Path(folder, "stderr")),
        )  # fmt: skip
        seen = json.loads(report.read_text()) if report.exists() else {}
        found = FINAL.findall(out.read_text(errors="replace"))
        notes = Path(folder, "run.parquet.spool", "notes.jsonl")
        actions = notes.read_text(errors="replace").count('"note": "treatment"') if notes.exists() else 0
        return Ended(
            float(found[-1]) if found else None, seen.get("finite", False), seen.get("moved", 0.0),
            seen.get("steps", 0), actions, seen.get("weights", ""),
        )  # fmt: skip


def drawn(cause: str, each: int, kept: Kept, half: str | None = None) -> list[Case]:
    """Programs whose sick form fails and whose twin trains, in a fixed random order."""
    members = [case for case in cases() if case.cause == cause and half in (None, case.counts_as)]
    random.Random(DRAWN).shuffle(members)
    found: list[Case] = []
    for case in members:
        if len(found) == each:
            break
        if not complaint(case, kept) and (cause != "bad-initialization" or kept.outcome(case.sick).broke):
            found.append(case)
    return found


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(math.ceil(share * len(ordered)) - 1, len(ordered) - 1)]


def mcnemar(better: int, worse: int) -> float:
    """Two-sided exact p of the discordant pairs."""
    n = better + worse
    tail = sum(math.comb(n, k) for k in range(min(better, worse) + 1)) / 2**n
    return min(1.0, 2 * tail) if n else 1.0


def measured(chosen: list[Case], seeds: int, jobs: int) -> dict[tuple[str, str, int], tuple[bool, bool, Ended]]:
    """(case, variant, seed) -> survived, recovered, how it ended."""
    numbered = [(case, replace(case, seed=case.seed + APART * k), k) for case in chosen for k in range(seeds)]
    work = [(case, text, k, variant) for case, seeded, k in numbered
            for variant, text in [("twin", seeded.twin), *((v, seeded.sick) for v in VARIANTS)]]  # fmt: skip
    ended: dict[tuple[str, str, int], Ended] = {}
    with ThreadPoolExecutor(jobs) as pool:
        done = pool.map(lambda job: run(job[1], PLAIN if job[3] == "twin" else job[3]), work)
        for number, (job, found) in enumerate(zip(work, done, strict=True), 1):
            ended[job[0].id, job[3], job[2]] = found
            print(f"\r{number}/{len(work)} runs ", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    result = {}
    for case in chosen:
        finals = [ended[case.id, "twin", k].final for k in range(seeds)]
        sound = [f for f in finals if f is not None and math.isfinite(f)]
        limit = percentile(sound, 0.9) if sound else math.nan
        for variant in VARIANTS:
            for k in range(seeds):
                found = ended[case.id, variant, k]
                good = found.survived and found.final is not None and found.final <= limit + WITHIN * abs(limit)
                result[case.id, variant, k] = found.survived, good, found
    return result


def disturbed(count: int, jobs: int, kept: Kept, half: str | None = None) -> tuple[int, list[str]]:
    """Healthy programs, and those of them in which active mode did anything, or changed a bit of a weight."""
    sound = []
    members = [case for case in cases() if half in (None, case.counts_as)]
    random.Random(DRAWN).shuffle(members)
    for case in members:
        if len(sound) == count:
            break
        if case.cause != "healthy" and not complaint(case, kept):
            sound.append((f"{case.id} (twin)", case.twin))
        elif case.cause == "healthy" and not complaint(case, kept):
            sound.append((case.id, case.sick))
    with ThreadPoolExecutor(jobs) as pool:
        ends = list(pool.map(lambda pair: (run(pair[1], ACTIVE), run(pair[1], PLAIN)), sound))
    return len(sound), [
        name for (name, _), (end, plain) in zip(sound, ends, strict=True) if end.actions or end.weights != plain.weights
    ]


def document(chosen: list[Case], result: dict, seeds: int, healthy: tuple[int, list[str]]) -> str:  # type: ignore[type-arg]
    of = {case.id: case.cause for case in chosen}
    total = len(chosen) * seeds
    lines = [
        "# Does active mode cure?", "",
        f"`make cure`: {len(chosen)} sick programs of clinic/, {seeds} seeds each. Survives: finite to the end, and "
        "the weights moved. Recovers: final loss within 10 % of the healthy twins' 90th percentile. p: two-sided exact "
        "McNemar test of recovery against active mode, paired by program and seed.", "",
        "| | survives | recovers | active alone | it alone | p |", "| --- | --- | --- | --- | --- | --- |",
    ]  # fmt: skip
    ours = {(i, k): good for (i, v, k), (_, good, _) in result.items() if v == ACTIVE}
    for variant in VARIANTS:
        mine = {(i, k): (lives, good) for (i, v, k), (lives, good, _) in result.items() if v == variant}
        lives, good = sum(a for a, _ in mine.values()), sum(b for _, b in mine.values())
        low, high = wilson(good, total)
        alone = sum(ours[key] and not mine[key][1] for key in mine)
        other = sum(mine[key][1] and not ours[key] for key in mine)
        p = "" if variant == ACTIVE else f"{mcnemar(alone, other):.2g}"
        lines.append(f"| {variant} | {lives / total:.1%} | {good / total:.1%} [{low:.1%}, {high:.1%}] | {alone} "
                     f"| {other} | {p} |")  # fmt: skip
    lines += ["", "| cause | runs | active survives | active recovers | best opponent recovers |",
              "| --- | --- | --- | --- | --- |"]  # fmt: skip
    for cause in dict.fromkeys(of.values()):
        by: dict[str, list[tuple[bool, bool]]] = defaultdict(list)
        for (i, v, _), (lives, good, _) in result.items():
            if of[i] == cause:
                by[v].append((lives, good))
        best = max((v for v in VARIANTS if v not in (ACTIVE, PLAIN)), key=lambda v: sum(g for _, g in by[v]))
        mine = by[ACTIVE]
        lines.append(f"| {cause} | {len(mine)} | {sum(a for a, _ in mine)} | {sum(b for _, b in mine)} "
                     f"| {sum(g for _, g in by[best])} ({best}) |")  # fmt: skip
    lines += ["", f"Interventions on {healthy[0]} healthy runs: {len(healthy[1])}"
              + (f" ({', '.join(healthy[1][:8])})" if healthy[1] else "") + ".", ""]  # fmt: skip
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--each", type=int, default=8, help="programs of each cause")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--healthy", type=int, default=300, help="healthy runs in which nothing may be done")
    parser.add_argument("--only", help="one cause; nothing is written then")
    parser.add_argument("--half", choices=HALVES, help="programs that count as this half; nothing is written then")
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    kept = Kept()
    causes = CAUSES if arguments.only is None else (arguments.only,)
    chosen = [case for cause in causes for case in drawn(cause, arguments.each, kept, arguments.half)]
    result = measured(chosen, arguments.seeds, arguments.jobs)
    text = document(chosen, result, arguments.seeds, disturbed(arguments.healthy, arguments.jobs, kept, arguments.half))
    print(text)
    if arguments.only or arguments.half:
        for (name, variant, k), (lives, good, found) in result.items():
            if variant == ACTIVE and not good:
                print(name, k, "survived" if lives else "died", found)
    else:
        DOCUMENT.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
