"""Scores nandoctor on the corpus: `python -m tests.score [--unseen | --all] [--twins] [NAME...]`.

Prints one row per script, right or wrong per field, and what was wrong in full below. With --twins, the healed version
of each sick script is recorded instead and must be called healthy.
"""

import argparse
import os
import sys
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tests.harness import CACHE, Label, Mark, Run, diagnose, healed, labels, marks, run_plain, run_recorded

FIELDS = ("same", "probes", "verdict", "phase", "step", "layer", "op", "line", "row", "index", "batch", "tensor",
          "exit", "run", "steps")  # fmt: skip


@dataclass(frozen=True)
class Score:
    label: Label
    marks: tuple[Mark, ...]
    seconds: float
    error: str = ""
    notes: list[str] = field(default_factory=list)


def score(label: Label, twin: bool) -> Score:
    """Record, compare with the plain run, diagnose, mark."""
    began = time.monotonic()
    result: list[Mark] = []
    try:
        program = healed(label, label.heal if twin else ())
        plain = run_plain(program)
        keep = CACHE.parent / "traces" / f"{label.name}{'.twin' if twin else ''}.parquet"
        keep.unlink(missing_ok=True)
        recorded = run_recorded(program, keep)
        result.append(same(plain, recorded))
        if recorded.trace is None:
            return Score(label, tuple(result), time.monotonic() - began, "no trace: " + recorded.said[-300:])
        result.append(probes(label, recorded.trace))
        wanted = Label(label.name, label.path, "healthy") if twin else label
        result += marks(wanted, program, diagnose(recorded.trace), recorded.file)
        return Score(label, tuple(result), time.monotonic() - began)
    except Exception:
        return Score(label, tuple(result), time.monotonic() - began, traceback.format_exc(limit=-3))


def same(plain: Run, recorded: Run) -> Mark:
    """Whether the recorded run did exactly what the plain one did."""
    left, right = plain.compared(), recorded.compared()
    different = [part for part in left if left[part] != right[part]]
    got = "" if not different else f"{different}: {str(right[different[0]])[-300:]}"
    return Mark("same", not different, "equal to the plain run", got)


def probes(label: Label, trace: Path) -> Mark:
    """Whether every expected kind of row is in the trace."""
    import nandoctor

    kinds = set(nandoctor.read_trace(trace)["kind"].unique())
    missing = [kind for kind in label.probes if kind not in kinds]
    return Mark("probes", not missing, "all", f"missing {missing}")


def table(scores: Sequence[Score]) -> str:
    """The scores as text."""
    width = max(len(s.label.name) for s in scores)
    shown = [name for name in FIELDS if any(m.field == name for s in scores for m in s.marks)]
    lines = [" " * width + "  " + " ".join(f"{name:>7}" for name in shown) + "   seconds"]
    for s in scores:
        by = {mark.field: mark for mark in s.marks}
        cells = ["." if name not in by else "ok" if by[name].right else "WRONG" for name in shown]
        lines.append(f"{s.label.name:<{width}}  " + " ".join(f"{cell:>7}" for cell in cells) + f"   {s.seconds:5.1f}"
                     + ("  ERROR" if s.error else ""))  # fmt: skip
    right, asked = Counter[str](), Counter[str]()
    for mark in (mark for s in scores for mark in s.marks):
        asked[mark.field] += 1
        right[mark.field] += mark.right
    lines.append(f"{'right':<{width}}  " + " ".join(f"{f'{right[name]}/{asked[name]}':>7}" for name in shown))
    for s in scores:
        wrong = [mark for mark in s.marks if not mark.right]
        if wrong or s.error:
            lines.append(f"\n{s.label.name} ({s.label.cause})")
            lines += [f"  {mark.field:>8}: wanted {mark.wanted}, got {mark.got}" for mark in wrong]
            lines += [f"  {line}" for line in s.error.strip().splitlines()[-6:]]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="scripts whose names contain this")
    parser.add_argument("--unseen", action="store_true", help="tests/unseen instead of tests/scripts")
    parser.add_argument("--all", action="store_true", help="both folders")
    parser.add_argument("--twins", action="store_true", help="the healed versions of the sick scripts")
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    folders = ("scripts", "unseen") if arguments.all else ("unseen",) if arguments.unseen else ("scripts",)
    chosen = [label for folder in folders for label in labels(folder).values()
              if not arguments.names or any(name in label.name for name in arguments.names)]  # fmt: skip
    if arguments.twins:
        chosen = [label for label in chosen if label.heal]
    if not chosen:
        parser.error("no script of that name")
    with ThreadPoolExecutor(arguments.jobs) as pool:
        scores = list(pool.map(lambda label: score(label, arguments.twins), chosen))
    print(table(scores))
    return int(any(s.error or not mark.right for s in scores for mark in s.marks or [Mark("", True, "", "")]))


if __name__ == "__main__":
    sys.exit(main())
