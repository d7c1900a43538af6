"""How sure is a verdict that says so? Confidence of the first finding against how often it was right, by bins.

    python benchmarks/calibration.py [--half tune]

Reads what `python -m clinic.accuracy` has recorded (its traces are kept), so it takes a minute. The constants of
diagnosis.py that turn a judge's confidence into the one that is told were chosen on the tune half with this.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from clinic.accuracy import counting, measured
from clinic.figures import auroc, calibration_error

BINS = ((0.5, 0.6), (0.6, 0.7), (0.7, 0.8), (0.8, 0.9), (0.9, 0.94), (0.94, 1.01))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--half", default="tune")
    parser.add_argument("--sample", type=int)
    arguments = parser.parse_args()
    results = [r for r in measured(counting(arguments.half, "", arguments.sample, 2), 2) if r.confidence > 0]
    for low, high in BINS:
        inside = [r for r in results if low <= r.confidence < high]
        right = sum(r.accepted for r in inside)
        print(f"{low:.2f} to {high:.2f}: {right}/{len(inside)} right")
    pairs = [r.confidence for r in results], [r.accepted for r in results]
    print(f"ECE {calibration_error(*pairs):.3f}, AUROC {auroc(*pairs)}")


if __name__ == "__main__":
    main()
