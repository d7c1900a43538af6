"""Does the loss leap and fall, leap and fall: batches of one kind in turn, each block taking back what the last taught?

A seasonal decomposition: the logarithm of the loss without its mean over one period, folded with that period.
"""

import math
from dataclasses import dataclass

import numpy as np

from ..trace.trace import Trace
from .course import NEAR
from .series import Floats, Series

SHORTEST = 6  # steps of a period: what comes round faster is a list of tasks, each with a loss of its own
READ = 2_000  # losses that are looked at, the last ones
ROUNDS = 4  # periods that make a habit
HARMONICS = 4  # overtones and multiples of an epoch: batches in the same order have the same losses again
RESTARTS = 2  # of the learning rate
LEAPS = 0.5  # of the profile's height in a single step
FALLS = -0.6  # correlation of the profile, from its leap on, with time: it is learned down again
BROAD = 0.25  # of the period above the middle: one dear batch in so many is no block


@dataclass(frozen=True)
class Turns:
    period: int
    explained: float  # share of what moves within a period that is the same in each of them; adjusted for its freedom
    certain: float  # that, in standard deviations of what independent losses would give
    height: float  # lowest to highest of the profile, as a share of the level


def gather(trace: Trace, losses: Series, bad_step: int | None, epoch: float | None) -> Turns | None:
    """The period that is the most certain; None where no profile leaps and falls."""
    values = losses.values if bad_step is None else losses.between(0, bad_step).values
    if len(values) < ROUNDS * SHORTEST or not np.isfinite(values).all() or values.min() <= 0:
        return None
    if _schedule_swings(trace):
        return None
    values = values[-READ:]
    logs = np.log(values)
    found = [turn for period in range(SHORTEST, len(values) // ROUNDS + 1)
             if not _of_epoch(period, epoch) and (turn := _folded(logs, period)) is not None]  # fmt: skip
    return max(found, key=lambda turn: turn.certain, default=None)


def _schedule_swings(trace: Trace) -> bool:
    """Warm restarts: the loss leaps with the learning rate. A warm-up rises once."""
    rows = trace.rows("learning_rate")
    rates = rows["value"][rows["subject"] == rows["subject"][0]] if len(rows) else rows["value"]
    rising = np.diff(rates) > 0
    return int((rising[1:] & ~rising[:-1]).sum()) >= RESTARTS


def _of_epoch(period: int, epoch: float | None) -> bool:
    if not epoch:
        return False
    ratio = max(period / epoch, epoch / period)
    return ratio < HARMONICS + 0.5 and abs(ratio - round(ratio)) <= NEAR * round(ratio) / 2


def _folded(logs: Floats, period: int) -> Turns | None:
    summed = np.cumsum(np.concatenate([[0.0], logs]))
    smooth = (summed[period:] - summed[:-period]) / period
    rest = logs[period // 2 : period // 2 + len(smooth)] - smooth
    rest = rest[: len(rest) // period * period]
    rounds = len(rest) // period
    if rounds < ROUNDS - 1:
        return None
    table = rest.reshape(rounds, period)
    profile = table.mean(0)
    total, within = float((rest - rest.mean()).var()), float(((table - profile) ** 2).mean())
    if not total > 0:
        return None
    explained = 1 - within / total * (len(rest) - 1) / (len(rest) - period)
    height = float(profile.max() - profile.min())
    rises = np.diff(np.concatenate([profile, profile[:1]]))
    after = np.roll(profile, -(int(np.argmax(rises)) + 1))
    broad = float((profile > (profile.max() + profile.min()) / 2).mean())
    falls = float(np.corrcoef(np.arange(period), after)[0, 1])
    if not height > 0 or rises.max() < LEAPS * height or falls > FALLS or broad < BROAD:
        return None
    certain = explained * (len(rest) - period) / math.sqrt(2 * (period - 1))
    return Turns(period, explained, certain, math.expm1(height))
