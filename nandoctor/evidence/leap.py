"""A loss that leaps ten-thousandfold between two steps although the update between them was small."""

from dataclasses import dataclass

import numpy as np

from ..trace.trace import Trace
from .series import Series, per_step

FACTOR = 1e4  # nothing that a hundredth of the weights does: outputs change by as much, their error by its square
BEFORE = 2  # losses that tell the level


@dataclass(frozen=True)
class Leap:
    step: int
    factor: float
    moved: float  # the update before it, against the weights


def gather(trace: Trace, losses: Series) -> Leap | None:
    """The first one. None where the update before it is not known."""
    values = losses.values
    usual = np.maximum.accumulate(np.abs(values))  # the loudest so far
    leaps = np.flatnonzero(~(values[BEFORE:] <= FACTOR * usual[BEFORE - 1 : -1])) + BEFORE
    if len(leaps) == 0 or not np.isfinite(values[leaps[0]]) or not usual[leaps[0] - 1] > 0:
        return None
    step = int(losses.steps[leaps[0]])
    moved = _moved(trace, step - 1)
    return Leap(step, float(values[leaps[0]] / usual[leaps[0] - 1]), moved) if moved is not None else None


def _moved(trace: Trace, step: int) -> float | None:
    sizes = []
    for kind in ("update", "weight"):
        rows = trace.rows(kind)
        rows = rows[rows["step"] == step]
        sizes.append(per_step(rows["step"], rows["norm"], "norm").at(step))
    update, weight = sizes
    return update / weight if update is not None and weight else None
