"""One number a step: the shape in which dynamics are read."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Steps = NDArray[np.int64]


@dataclass(frozen=True)
class Series:
    """Values by step, steps rising and unique."""

    steps: Steps
    values: Floats

    def __len__(self) -> int:
        return len(self.steps)

    def between(self, first: int, stop: int) -> "Series":
        """Steps first..stop-1."""
        inside = (self.steps >= first) & (self.steps < stop)
        return Series(self.steps[inside], self.values[inside])

    def at(self, step: int) -> float | None:
        place = int(np.searchsorted(self.steps, step))
        if place < len(self.steps) and self.steps[place] == step:
            return float(self.values[place])
        return None


EMPTY = Series(np.zeros(0, np.int64), np.zeros(0))


def per_step(steps: NDArray[np.integer], values: Floats, how: str = "mean") -> Series:
    """Rows put together by step: "mean", "max", or "norm" (root of the summed squares)."""
    if len(steps) == 0:
        return EMPTY
    order = np.argsort(steps, kind="stable")
    steps, values = np.asarray(steps, np.int64)[order], np.asarray(values, np.float64)[order]
    unique, first = np.unique(steps, return_index=True)
    with np.errstate(all="ignore"):
        if how == "max":
            joined = np.maximum.reduceat(values, first)
        elif how == "norm":
            joined = np.sqrt(np.add.reduceat(values * values, first))
        else:
            joined = np.add.reduceat(values, first) / np.diff(np.append(first, len(values)))
    return Series(unique, joined)


def median(values: Floats) -> float | None:
    """Of the finite values; None where there are none."""
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if len(finite) else None


def growth_per_step(series: Series) -> float | None:
    """Factor by which a positive series grows each step: exp of the slope of its logarithm (E19)."""
    usable = np.isfinite(series.values) & (series.values > 0)
    if int(usable.sum()) < 3:
        return None
    x = series.steps[usable].astype(np.float64)
    y = np.log(series.values[usable])
    x = x - x.mean()
    spread = float((x * x).sum())
    if spread == 0:
        return None
    slope = float((x * (y - y.mean())).sum()) / spread
    return float(np.exp(np.clip(slope, -700, 700)))


def rising_share(series: Series) -> float | None:
    """Share of steps on which the series rose."""
    finite = series.values[np.isfinite(series.values)]
    if len(finite) < 2:
        return None
    return float((np.diff(finite) > 0).mean())
