"""What steps kept of their promise, measured on their own batch by `record --probe` (E10, E12)."""

from dataclasses import dataclass

import numpy as np

from ..trace.trace import Trace
from .onset import Onset
from .series import Series, median, per_step

LAST = 6  # probed steps before onset: about a hundred steps where every 19th is probed, twenty where steps overshoot
FEWEST = 2  # one batch alone says little of a step


@dataclass(frozen=True)
class Overshoot:
    rho: float | None  # decrease of the loss over the promised one: 1 - lr * curvature / 2; median before onset
    rho_overall: float | None
    factor: float | None  # times the step at which the loss is back where it was, median before onset
    probed: int  # steps of the whole run


def gather(trace: Trace, onset: Onset) -> Overshoot | None:
    """None where no step was probed."""
    rho, factor = trace.rows("rho"), trace.rows("critical_factor")
    if len(rho) == 0 and len(factor) == 0:
        return None
    kept, larger = per_step(rho["step"], rho["value"]), per_step(factor["step"], factor["value"])
    return Overshoot(
        rho=_before(kept, onset),
        rho_overall=median(kept.values),
        factor=_before(larger, onset),
        probed=len(np.union1d(kept.steps, larger.steps)),
    )


def _before(series: Series, onset: Onset) -> float | None:
    """Of the last ones; at onset itself everything explodes. A run that fails within two steps has its first alone."""
    values = series.between(0, onset.step).values[-LAST:]
    return median(values) if len(values) >= min(FEWEST, onset.step) else None
