"""How gradients turn and how the loss bends along the updates, from the recorded samples (E7, E13, E14)."""

from dataclasses import dataclass

import numpy as np

from ..trace.trace import Trace
from .onset import Onset
from .series import Series, median, per_step

FEWEST = 4  # values that a median needs


@dataclass(frozen=True)
class Dynamics:
    cosine: float | None  # between successive gradients, median over the window before onset, E14
    cosine_late: float | None  # over the second half of the run
    cosine_early: float | None  # over the first steps
    curvature: float | None  # -s.(g' - g) / 2 s.g, median before onset; above 1 the gradient turned and grew, E13
    curvature_late: float | None
    uphill: float | None  # share of updates that went up the gradient: s.g > 0


def gather(trace: Trace, onset: Onset) -> Dynamics | None:
    cosines, bends = trace.rows("gradient_cosine"), trace.rows("curvature")
    if len(cosines) == 0:
        return None
    turned = per_step(cosines["step"], cosines["value"])
    bent = per_step(bends["step"], bends["value"])
    end = int(turned.steps[-1]) + 1
    slopes = bends["slope"][np.isfinite(bends["slope"])]
    return Dynamics(
        cosine=_middle(turned, *onset.window),
        cosine_late=_middle(turned, end // 2, end),
        cosine_early=_middle(turned, 0, 20),
        curvature=_middle(bent, *onset.window),
        curvature_late=_middle(bent, end // 2, end),
        uphill=float((slopes > 0).mean()) if len(slopes) >= FEWEST else None,
    )


def _middle(series: Series, first: int, stop: int) -> float | None:
    values = series.between(first, stop).values
    return median(values) if len(values) >= FEWEST else None
