"""make faults: every case many times at random moments; what was left, as a table.

python -m tests.faults [TRIALS [SEED [CASE ...]]]
"""

import random
import sys
import tempfile
import time
import traceback
from pathlib import Path

from tests.faults.cases import CASES
from tests.faults.trial import Trial


def one(name: str, seed: str) -> str | None:
    """None where all was as it should; else what was not."""
    with tempfile.TemporaryDirectory(prefix="faults") as folder:
        trial = Trial(Path(folder), random.Random(seed))
        try:
            CASES[name][0](trial)
        except Exception:
            return f"{seed}: {traceback.format_exc()}\n{trial.said()}"
        finally:
            trial.clean()
    return None


def main() -> int:
    trials = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    seed = sys.argv[2] if len(sys.argv) > 2 else "0"
    wanted = sys.argv[3:] or list(CASES)
    failed = 0
    for name in wanted:
        count = max(1, round(trials * CASES[name][1]))
        began = time.monotonic()
        wrong = [words for number in range(count) if (words := one(name, f"{name} {seed} {number}")) is not None]
        failed += len(wrong)
        for words in wrong:
            print(words, flush=True)
        print(f"{name:44} {count:4} trials {len(wrong):4} failed {time.monotonic() - began:7.1f} s", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
