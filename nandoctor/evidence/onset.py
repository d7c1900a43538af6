"""When the run left its path, and the window before it: dynamics are read there; later all explodes."""

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from .series import Floats, Series

WINDOW = 20  # steps before onset, as in the study behind docs/evidence (E10 to E20)
JUMP = 4.0  # onset: loss above 4 times the median of the last 20 steps, and never back


@dataclass(frozen=True)
class Onset:
    """`step` is the first step of the run-up, `failed` the step of the non-finite value or the last one."""

    step: int
    failed: int
    window: tuple[int, int]  # first step and stop of the window before onset; empty if onset is step 0

    @property
    def run_up(self) -> int:
        """Steps between leaving the path and the failure: 0 is sudden."""
        return self.failed - self.step


def gather(losses: Series, gradients: Series, bad_step: int | None, last_step: int) -> Onset:
    failed = last_step if bad_step is None else bad_step
    bad = [int(s.steps[~np.isfinite(s.values)][0]) for s in (losses, gradients) if not np.isfinite(s.values).all()]
    if bad_step is None and bad:
        failed = min(bad)  # a skipped overflow may stand alone in the trace
    step = _leaves(losses.between(0, failed + 1))
    step = failed if step is None else min(step, failed)
    return Onset(step=step, failed=failed, window=(max(0, step - WINDOW), step))


def _leaves(losses: Series) -> int | None:
    """The first step whose loss jumps above the usual and stays there to the end."""
    values = losses.values
    if len(values) < 2:
        return None
    lowest_from = np.minimum.accumulate(np.where(np.isnan(values), np.inf, values)[::-1])[::-1]
    usual = _usual(np.abs(values))
    with np.errstate(invalid="ignore"):
        jumps = (values > JUMP * usual) | ~np.isfinite(values)
        stays = lowest_from > JUMP / 2 * usual
    left = np.flatnonzero(jumps & stays)
    return int(losses.steps[left[0]]) if len(left) else None


def _usual(values: Floats) -> Floats:
    """Median of the WINDOW values before each place; nan at the first, which has none."""
    usual = np.full(len(values), np.nan)
    for place in range(1, min(WINDOW, len(values))):
        usual[place] = np.median(values[:place])
    if len(values) > WINDOW:
        usual[WINDOW:] = np.median(sliding_window_view(values, WINDOW)[:-1], axis=1)
    return usual
