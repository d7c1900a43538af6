"""Where a loss got to that did not fail: how far, since when no further, and whether it swings (E34, E35)."""

import math
from dataclasses import dataclass

import numpy as np

from .series import Floats, Series

FEW = 12  # losses below which no course can be read
BLOCKS = 16  # pieces of a run whose means are compared: the noise of single batches averages out
EARLY = 10  # losses that tell the level of a noisy start
FIRST = 3  # losses whose median is the start
LEAST_SWINGS = 3  # of a period within the second half
HARMONICS = 4  # overtones of an epoch that are told from a swing of the training
NEAR = 0.06
WON = 0.02  # of the whole way down: a block that is better by less has won nothing


@dataclass(frozen=True)
class Course:
    steps: int
    start: float  # the first loss, or the median of the first few where that is lower: some blow up at once
    end: float  # mean of the last block
    best: float  # lowest mean of a block
    stalled: float  # share of the run since the last block that won something
    stalled_steps: int
    progress: float  # share of the start that was won until the end: 1 - end / start where losses are positive
    noise: float  # standard error of a block's mean, against |start|
    swing: float  # of the second half: spread (10 to 90 %) of single losses against the way from start to best
    flips: float | None  # share of changes of direction in the second half; 2/3 for pure noise, 1 for a zigzag
    autocorrelation: float | None  # of successive changes; -0.5 for pure noise, -1 for a zigzag
    slow: float | None  # variance of block means in the second half / what independent losses would give
    period: float | None  # steps of the strongest swing of the second half that is not the length of an epoch
    periodic: float  # share of that swing in the variance of the detrended losses; white noise: ln(n) / n * 2
    amplitude: float  # its height, lowest to highest, against the median of the second half
    falling: float  # slope over the second half, as a share of |start - best| a half: negative = falls
    start_noise: float = 0.0  # standard error of the mean of ten losses, against |start|
    late_low: float | None = None  # the lowest mean of a block in the second half


def gather(losses: Series, bad_step: int | None, epoch: float | None = None) -> Course | None:
    """`epoch`: steps of one pass over the data; a loss that repeats with it shows the order of the batches."""
    values = losses.values if bad_step is None else losses.between(0, bad_step).values
    values = values[np.isfinite(values)]
    if len(values) < FEW:
        return None
    blocks = np.array_split(values, min(BLOCKS, len(values) // 3))
    means = np.array([block.mean() for block in blocks])
    start = float(min(values[0], np.median(values[:FIRST])))
    best = float(means.min())
    way = start - best
    lows = np.minimum.accumulate(means)
    won = np.flatnonzero(np.diff(lows) < -WON * max(abs(way), 1e-12)) + 1
    last_won = int(won[-1]) if len(won) else 0
    half = values[len(values) // 2 :]
    noise = float(np.median([block.std() / math.sqrt(len(block)) for block in blocks]))
    scale = abs(start) if start else 1.0
    period, periodic, amplitude = _periodic(half, epoch)
    with np.errstate(all="ignore"):
        return Course(
            steps=len(values),
            start=start,
            end=float(means[-1]),
            best=best,
            stalled=1 - (last_won + 1) / len(means),
            stalled_steps=sum(len(block) for block in blocks[last_won + 1 :]),
            late_low=float(means[len(means) // 2 :].min()),
            progress=(start - float(means[-1])) / scale,
            noise=noise / scale,
            start_noise=noise * math.sqrt(len(values) / len(blocks) / EARLY) / scale,
            swing=float(np.quantile(half, 0.9) - np.quantile(half, 0.1)) / max(abs(way), 1e-12),
            flips=_flips(half),
            autocorrelation=_autocorrelation(np.diff(half)),
            slow=_slow(half),
            period=period,
            periodic=periodic,
            amplitude=amplitude,
            falling=_falling(half, way),
        )


def _flips(values: Floats) -> float | None:
    signs = np.sign(np.diff(values))
    signs = signs[signs != 0]
    return float((signs[1:] != signs[:-1]).mean()) if len(signs) > 2 else None


def _autocorrelation(changes: Floats) -> float | None:
    if len(changes) < 4:
        return None
    changes = changes - changes.mean()
    total = float((changes * changes).sum())
    return float((changes[1:] * changes[:-1]).sum()) / total if total > 0 else None


def _slow(values: Floats) -> float | None:
    """Do losses near one another belong together, beside their trend? 1 for independent ones; above: it swings."""
    x = np.arange(len(values), dtype=np.float64)
    values = values - np.polyval(np.polyfit(x, values, 1), x) if len(values) > 2 else values
    length = max(3, len(values) // 12)
    pieces = [values[at : at + length] for at in range(0, len(values) - length + 1, length)]
    if len(pieces) < 4:
        return None
    within = float(np.mean([piece.var() for piece in pieces])) / length
    return float(np.var([piece.mean() for piece in pieces])) / within if within > 0 else None


def _periodic(values: Floats, epoch: float | None) -> tuple[float | None, float, float]:
    """Fisher's statistic: the largest ordinate of the periodogram against their sum."""
    x = np.arange(len(values), dtype=np.float64)
    if len(values) < 4 * FEW:
        return None, 0.0, 0.0
    rest = values - np.polyval(np.polyfit(x, values, 1), x)
    power = np.abs(np.fft.rfft(rest)) ** 2
    frequencies = np.fft.rfftfreq(len(values))
    usable = np.arange(len(power)) >= LEAST_SWINGS
    if epoch:
        cycles = frequencies * epoch
        usable &= (np.abs(cycles - np.round(cycles)) > NEAR * np.maximum(cycles, 1)) | (np.round(cycles) > HARMONICS)
    power = np.where(usable, power, 0.0)
    total = float((np.abs(np.fft.rfft(rest)) ** 2)[1:].sum())
    place = int(np.argmax(power))
    if not total > 0 or not power[place] > 0:
        return None, 0.0, 0.0
    height = 4 * math.sqrt(float(power[place])) / len(values)
    level = abs(float(np.median(values)))
    return 1 / float(frequencies[place]), float(power[place]) / total, height / level if level else 0.0


def _falling(values: Floats, way: float) -> float:
    x = np.arange(len(values), dtype=np.float64)
    x -= x.mean()
    slope = float((x * (values - values.mean())).sum() / (x * x).sum())
    return slope * len(values) / max(abs(way), 1e-12)
