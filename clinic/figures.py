"""The statistics of a measurement: Wilson's interval, calibration, area under the curve. No third party."""

import math
from collections.abc import Sequence

Z = 1.959964  # 95 %
BINS = 10


def wilson(right: int, of: int) -> tuple[float, float]:
    """95 % interval of a proportion (Wilson 1927): honest for small numbers and near 0 and 1."""
    if of == 0:
        return 0.0, 1.0
    share = right / of
    middle = (share + Z * Z / (2 * of)) / (1 + Z * Z / of)
    half = Z / (1 + Z * Z / of) * math.sqrt(share * (1 - share) / of + Z * Z / (4 * of * of))
    return max(0.0, middle - half), min(1.0, middle + half)


def calibration_error(confidences: Sequence[float], right: Sequence[bool]) -> float:
    """ECE over ten bins of equal width: how far confidence and share of right verdicts lie apart."""
    total = len(confidences)
    error = 0.0
    for place in range(BINS):
        inside = [i for i, c in enumerate(confidences) if place / BINS < c <= (place + 1) / BINS or c == place == 0]
        if inside:
            said = sum(confidences[i] for i in inside) / len(inside)
            was = sum(right[i] for i in inside) / len(inside)
            error += abs(said - was) * len(inside) / total
    return error


def auroc(confidences: Sequence[float], right: Sequence[bool]) -> float | None:
    """Probability that a right verdict is surer than a wrong one; None where there is none of either."""
    good = [c for c, r in zip(confidences, right, strict=True) if r]
    wrong = [c for c, r in zip(confidences, right, strict=True) if not r]
    if not good or not wrong:
        return None
    return sum((g > w) + 0.5 * (g == w) for g in good for w in wrong) / (len(good) * len(wrong))
