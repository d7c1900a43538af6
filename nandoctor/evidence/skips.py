"""Steps that a GradScaler left out: as designed, or for ever, which hides a fault (E30)."""

from typing import TYPE_CHECKING, Any

import numpy as np

from ..trace.trace import Trace

if TYPE_CHECKING:
    from .first_bad import Bad

WARM_UP_SKIPS = 24  # a scale of 2^16 may need 16 halvings, 2^24 needs 24: so many skips in a row are by design
LOSSES_IN_A_ROW = 3  # the loss scale cannot make the loss itself non-finite: three in a row are no accident


def by_design(bad: "Bad") -> bool:
    """An overflow in half, or in scaled gradients, that a GradScaler left out. A NaN in a batch is none."""
    return bad.skipped and (bad.phase == "backward" or (bad.dtype == "float16" and bad.phase != "input"))


def skips_for_ever(trace: Trace) -> bool:
    """Whether the GradScaler never got going again: then its skips hide a real fault (E30)."""
    done = trace.rows("step")["value"]
    streak = _last_streak(done)
    if streak > WARM_UP_SKIPS:
        return True
    scales = trace.rows("loss_scale")["value"]
    if len(scales) and scales[-1] < 1:
        return True
    losses = trace.rows("loss")["value"]
    return streak >= LOSSES_IN_A_ROW and _last_streak(np.isfinite(losses)) >= LOSSES_IN_A_ROW


def singular_to_the_end(trace: Trace, designed: list["Bad"]) -> bool:
    """The last steps were left out one by one, and an operation at its singular point was seen in each: it makes NaN
    whatever the loss scale is.
    """
    rows = trace.rows("step")
    streak = _last_streak(rows["value"])
    if streak < LOSSES_IN_A_ROW:
        return False
    named = {bad.step for bad in designed if bad.op is not None and bad.method == "graph"}
    return all(int(step) in named for step in rows["step"][-streak:][:LOSSES_IN_A_ROW])


def _last_streak(values: np.ndarray[Any, Any]) -> int:
    """How many of the last values are 0 (skipped, or not finite)."""
    good = np.flatnonzero(values != 0)
    return len(values) - (int(good[-1]) + 1 if len(good) else 0)


def start_of_streak(trace: Trace, designed: list["Bad"]) -> "Bad":
    rows = trace.rows("step")
    streak = _last_streak(rows["value"])
    start = int(rows["step"][-streak]) if streak else 0
    return next((bad for bad in designed if bad.step >= start), designed[-1])
