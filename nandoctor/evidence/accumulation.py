"""How gradients are collected and cleared: backwards for each step, the divisor of the loss, zero_grad (E7)."""

from dataclasses import dataclass

import numpy as np

from ..trace.trace import Rows, Trace
from .onset import Onset
from .series import Steps, median

FEW = 5  # steps
MANY = 100  # calls of backward: what measures gradients, and does not train, needs fewer
ENDS = 20  # losses whose median is the beginning, and the end
MOST = 0.5  # of the steps
STAYS = 0.95  # of the first losses: weights that the user's own code moves make them fall


@dataclass(frozen=True)
class Accumulation:
    optimizers: int
    backwards: float | None  # backward calls for each step, median
    divisor: float | None  # what the user divided the loss by last, median where he did; None if he never did
    stale: float  # share of the steps recorded whole that used again what a step had used
    longest_stale: int
    cleared: bool  # zero_grad was ever called
    lost: float  # share of steps with a zero_grad between their last backward and themselves
    never_stepped: int = 0  # calls of backward in a run of a hundred or more that were cleared and never used


def gather(trace: Trace, onset: Onset) -> Accumulation | None:
    steps, backwards, stale = trace.rows("step"), trace.rows("backward"), trace.rows("stale_gradient")
    if len(steps) == 0 and len(backwards) >= MANY and len(trace.rows("zero_grad")) >= MANY and _stays(trace):
        return Accumulation(1, None, None, 0.0, 0, True, 0.0, never_stepped=len(backwards))
    if len(steps) < FEW or len(backwards) == 0:
        return None
    counted = max(1, min(len(steps), onset.failed + 1))  # what comes after a failure may be skipped
    counts = np.bincount(np.clip(backwards["step"], 0, len(steps)), minlength=len(steps) + 1)[: len(steps)]
    divided = backwards[np.isfinite(backwards["divisor"]) & (backwards["divisor"] > 0)]
    divisors = divided["divisor"] if _shared(divided) else divided["divisor"][:0]
    return Accumulation(
        optimizers=max(1, len({str(note.get("id")) for note in trace.notes_of("optimizer")})),
        backwards=median(counts[counts > 0].astype(np.float64)),
        divisor=median(divisors),
        stale=float((stale["step"] < counted).sum()) / _looked_at(trace, counted),
        longest_stale=int(np.clip(np.nan_to_num(stale["value"]), 0, 2**53).max(initial=0)),
        cleared=len(trace.rows("zero_grad")) > 0,
        lost=_lost(steps["order"], backwards["order"], trace.rows("zero_grad")["order"]),
    )


def _shared(divided: Rows) -> bool:
    """All backwards of a step divide by the same number, in most steps: else it is each batch's own mean."""
    _, counts = np.unique(divided["step"], return_counts=True)
    several = counts > 1
    if not several.any():
        return True
    order = np.argsort(divided["step"], kind="stable")
    ranges = np.split(divided["divisor"][order], np.cumsum(counts)[:-1])
    return float(np.mean([np.ptp(r) == 0 for r, many in zip(ranges, several, strict=True) if many])) >= MOST


def _stays(trace: Trace) -> bool:
    losses = trace.rows("loss")["value"]
    early, late = median(losses[:ENDS]), median(losses[-ENDS:])
    return early is not None and late is not None and late >= early - (1 - STAYS) * abs(early)


def _looked_at(trace: Trace, counted: int) -> int:
    """Of so many steps those that were recorded whole: at others nobody asked whether gradients were cleared."""
    whole = np.unique(trace.rows("weight")["step"])
    return int((whole < counted).sum()) or counted


def _lost(steps: Steps, backwards: Steps, clears: Steps) -> float:
    """What backward had collected was cleared before the step could use it."""
    at = np.searchsorted(backwards, steps) - 1
    started = np.concatenate([[-1], steps[:-1]])
    last_backward = np.where(at >= 0, backwards[np.clip(at, 0, None)], -1)
    cleared_since = np.searchsorted(clears, steps) > np.searchsorted(clears, last_backward)
    return float((cleared_since & (last_backward > started)).mean())
