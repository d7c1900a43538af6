"""make faults: every case many times at random moments; what was left, as a table.

python -m tests.faults [TRIALS [SEED [docs/faults.md [CASE ...]]]]
"""

import random
import sys
import tempfile
import time
import traceback
from datetime import date
from pathlib import Path

from tests.faults.cases import CASES
from tests.faults.trial import NotHere, Trial
from tests.machine import machine

SKIPPED = "not here: "


def one(name: str, seed: str) -> str | None:
    """None where all was as it should; else what was not."""
    with tempfile.TemporaryDirectory(prefix="faults") as folder:
        trial = Trial(Path(folder), random.Random(seed))
        try:
            CASES[name][0](trial)
        except NotHere as lack:
            return f"{SKIPPED}{lack}"
        except Exception:
            return f"{seed}: {traceback.format_exc()}\n{trial.said()}"
        finally:
            trial.clean()
    return None


def main() -> int:
    trials = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    seed = sys.argv[2] if len(sys.argv) > 2 else "0"
    target = Path(sys.argv[3]) if len(sys.argv) > 3 else None
    wanted = sys.argv[4:] or [name for name, (_, share) in CASES.items() if share]
    failed, lines = 0, ["| what happens | trials | failed | seconds a trial |", "| --- | --- | --- | --- |"]
    print(*lines, sep="\n", flush=True)
    for name in wanted:
        count = max(1, round(trials * CASES[name][1]))
        began = time.monotonic()
        wrong = [words for number in range(count) if (words := one(name, f"{name} {seed} {number}")) is not None]
        skipped = [words for words in wrong if words.startswith(SKIPPED)]
        failed += len(wrong) - len(skipped)
        for words in dict.fromkeys(wrong):
            print(words, file=sys.stderr, flush=True)
        told = f"{count - len(skipped)} | {len(wrong) - len(skipped)} | {(time.monotonic() - began) / count:.1f}"
        lines.append(f"| {name} | {told} |")
        print(lines[-1], flush=True)
    if target is not None:
        prose = target.read_text(encoding="utf-8").partition("## Result")[0]
        table = "\n".join(lines)
        target.write_text(f"{prose}## Result\n{date.today()}, {machine()}.\n\n{table}\n", encoding="utf-8")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
