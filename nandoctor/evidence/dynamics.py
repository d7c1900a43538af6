"""How gradients turn and how the loss bends along the updates, from the recorded samples (E7, E13, E14)."""

from dataclasses import dataclass

import numpy as np

from ..trace.trace import Trace
from .series import Series, median, per_step

FEWEST = 4  # values that a median needs


@dataclass(frozen=True)
class Dynamics:
    cosine_late: float | None  # between successive gradients, median over the second half of the run, E14
    curvature_late: float | None  # -s.(g' - g) / 2 s.g, likewise; above 1 the gradient turned and grew, E13
    uphill: float | None  # share of updates that went up the gradient: s.g > 0


def gather(trace: Trace) -> Dynamics | None:
    cosines, bends = trace.rows("gradient_cosine"), trace.rows("curvature")
    if len(cosines) == 0:
        return None
    turned = per_step(cosines["step"], cosines["value"])
    bent = per_step(bends["step"], bends["value"])
    end = int(turned.steps[-1]) + 1
    slopes = bends["slope"][np.isfinite(bends["slope"])]
    return Dynamics(
        cosine_late=_middle(turned, end // 2, end),
        curvature_late=_middle(bent, end // 2, end),
        uphill=float((slopes > 0).mean()) if len(slopes) >= FEWEST else None,
    )


def _middle(series: Series, first: int, stop: int) -> float | None:
    values = series.between(first, stop).values
    return median(values) if len(values) >= FEWEST else None
