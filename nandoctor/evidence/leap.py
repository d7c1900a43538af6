"""A loss that leaps ten-thousandfold between two steps although the update between them was small; and one that is back
where an untrained model is, from one step to the next, for good.
"""

import math
from dataclasses import dataclass

import numpy as np

from ..trace.trace import Trace
from .series import Series, median, per_step

FACTOR = 1e4  # nothing that a hundredth of the weights does: outputs change by as much, their error by its square
BEFORE = 2  # losses that tell the level
AROUND = 8  # losses before and after, and gradients before
LEARNED = 0.3  # of the first loss: most of it was won
UNTRAINED = 0.15  # near the first loss, of it
ORDINARY = 3.0  # times the usual gradient: the update was one like those before it


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


@dataclass(frozen=True)
class Forgotten:
    step: int  # of the first loss after it
    before: float
    after: float
    start: float


def forgotten(losses: Series, norms: Series, rates: Series) -> Forgotten | None:
    """All is forgotten between two steps, by an update like those before it: the same rate, an ordinary gradient."""
    values, start = losses.values, median(losses.values[:BEFORE])
    if start is None or not start > 0 or len(values) < 3 * AROUND:
        return None
    up = np.flatnonzero((values[1:] >= (1 - UNTRAINED) * start) & (values[:-1] <= LEARNED * start)) + 1
    for place in up.tolist():
        before, after = values[max(0, place - AROUND) : place], values[place : place + AROUND]
        if len(before) < AROUND or len(after) < AROUND or not np.isfinite(after).all():
            continue
        level = float(np.median(after))
        if before.max() > LEARNED * start or not abs(level - start) <= UNTRAINED * start or after.min() < start / 2:
            continue
        step = int(losses.steps[place])
        usual, last = median(norms.between(step - AROUND, step - 1).values), norms.at(step - 1)
        rate, rate_before = rates.at(step - 1), rates.at(step - 2)
        if usual is None or last is None or not last <= ORDINARY * usual or not math.isfinite(last):
            continue
        if rate is not None and rate_before is not None and rate > ORDINARY * rate_before:
            continue
        return Forgotten(step, float(np.median(before)), level, start)
    return None


def _moved(trace: Trace, step: int) -> float | None:
    sizes = []
    for kind in ("update", "weight"):
        rows = trace.rows(kind)
        rows = rows[rows["step"] == step]
        sizes.append(per_step(rows["step"], rows["norm"], "norm").at(step))
    update, weight = sizes
    return update / weight if update is not None and weight else None
