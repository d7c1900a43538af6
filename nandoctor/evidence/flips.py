"""A weight that changed between two steps, once, by as much as one flipped bit would change it (E2, E9)."""

import math
from dataclasses import dataclass

import numpy as np

from ..trace.trace import Trace

EXPONENT_BITS = (1, 2, 4, 8, 16, 32, 64, 128)  # what one flipped bit of a float32's exponent adds to it
LOUD = 3.0  # relative change of the norm: below it the element that changed cannot be told from the others
SMALL, LARGE = 1e-3, 1.0  # an element lies between a thousandth of the rms of its tensor and the whole norm
SAMPLE = 2048  # elements of a parameter that recording/probes/weights.py reads


@dataclass(frozen=True)
class Flip:
    step: int
    parameter: str
    before: float  # what the element was before, if one bit flipped
    after: float
    bits: int  # its exponent grew by so much: after = before * 2 ** bits


def gather(trace: Trace) -> Flip | None:
    """Only where it happened to one parameter and once in the run: code that writes does so again."""
    found = trace.rows("foreign_write")
    if len(found) != 1:
        return None
    row = found[0]
    step, number, change = int(row["step"]), int(row["subject"]), float(row["value"])
    loads = trace.rows("checkpoint")["step"]
    if len(loads) and bool((np.abs(loads.astype(np.int64) - step) <= 1).any()):
        return None
    weights = trace.rows("weight")
    earlier = weights[(weights["subject"] == number) & (weights["step"] < step)]
    subject = trace.subjects.get(number)
    if len(earlier) == 0 or subject is None or not change > LOUD:
        return None
    norm = float(earlier[-1]["norm"])
    count = max(1, math.prod(trace.shapes.get(int(earlier[-1]["shape"]), (1,))))
    return explained(step, subject.name, norm, count, change)


def explained(step: int, parameter: str, norm: float, count: int, change: float) -> Flip | None:
    """`norm` and `count` of the whole parameter before; `change` of the norm of its sample."""
    sampled = norm * math.sqrt(min(1.0, SAMPLE / count))
    if not 0 < norm < math.inf:
        return None
    after = sampled * (1 + change)  # above LOUD one element is nearly all of the norm
    for bits in EXPONENT_BITS:
        before = after / 2.0**bits if math.isfinite(after) else norm / math.sqrt(count)
        if SMALL * norm / math.sqrt(count) <= before <= LARGE * norm and (math.isfinite(after) or bits == 128):
            return Flip(step, parameter, before, after, bits)
    return None
