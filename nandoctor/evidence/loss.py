"""How the loss went: where it began, where it ended, how it got there."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..trace.trace import Rows, Trace
from .layers import graph_nodes
from .onset import Onset
from .series import Floats, Series, growth_per_step, median, per_step, rising_share
from .sizes import elements

TAIL = 10  # steps at the end whose median is "the last loss"
LONG_TAIL = 20  # one part in so many of a long run is its end
READ_STEPS = 2_000  # steps in which a repetition of inputs is looked for
REPEATED = 0.95  # of the inputs have the norm of those one epoch before
STEEP = ("Exp", "Div", "Reciprocal", "Rsqrt", "Log")  # make large numbers of small ones
SPIKE, BACK = 1e3, 10.0  # times the usual loss
LAST_VALUES = 6  # losses before the failure that a report prints


@dataclass(frozen=True)
class Loss:
    """None = the trace cannot tell."""

    steps: int
    first: float
    end: float  # median of the last steps; the failing one included
    best: float | None
    early: float | None  # median of the first steps: one batch is noise
    late_low: float | None  # lowest of the second half; None where it is not finite
    late_high: float | None  # what nine in ten losses of the second half stay below
    peak: float
    pre_median: float | None  # before onset
    jump_at_onset: float | None  # loss at onset / pre_median
    growth: float | None  # factor a step in the run-up, E19
    rising: float | None  # share of rising steps in the run-up
    still_growing: bool  # the loss was higher at the end than a tail before
    expected: float | None  # of an untrained model: ln(classes) or the mean square of the target, E23
    expected_from: str | None
    before_failure: tuple[tuple[int, float], ...]  # the last (step, loss) up to the failure
    unexplained: float | None = None  # first loss / what the squares of the loudest first output make
    zero: bool = False  # exactly 0 at every step
    spikes: int = 0  # losses a thousand times the usual one, each with an ordinary one after it

    @property
    def first_over_expected(self) -> float | None:
        if self.expected is None or self.expected <= 0:
            return None
        return self.first / self.expected


def series(trace: Trace) -> Series:
    """Loss by step. Of several losses the one that fails first, else the one that grew most."""
    rows = trace.rows("loss")
    rows = rows[rows["mode"] == 0]
    candidates = [
        per_step(rows["step"][rows["subject"] == subject], rows["value"][rows["subject"] == subject])
        for subject in np.unique(rows["subject"])
    ]
    if len(candidates) <= 1:
        return per_step(rows["step"], rows["value"])
    failing = [(int(s.steps[~np.isfinite(s.values)][0]), s) for s in candidates if not np.isfinite(s.values).all()]
    if failing:
        return min(failing, key=lambda pair: pair[0])[1]
    return max(candidates, key=lambda s: (len(s) >= TAIL, _grew(s)))


def steps_of_epoch(trace: Trace) -> float | None:
    """Steps until the training data come again: by the loader's iterations, or by inputs that repeat exactly."""
    lengths = np.diff(np.unique(trace.rows("epoch")["step"]))
    if len(lengths):
        return float(np.median(lengths))
    inputs = trace.rows("input")
    norms = per_step(inputs["step"], inputs["norm"], "norm").values[:READ_STEPS]
    for length in range(1, len(norms) // 2):
        if np.mean(norms[length:] == norms[:-length]) >= REPEATED:
            return float(length)
    return None


def _grew(losses: Series) -> float:
    first, end = abs(float(losses.values[0])), abs(float(np.median(losses.values[-TAIL:])))
    return end / first if first > 0 and math.isfinite(end) else 0.0


def gather(trace: Trace, losses: Series, onset: Onset) -> Loss | None:
    if len(losses) == 0:
        return None
    values = losses.values
    finite = values[np.isfinite(values)]
    tail = max(TAIL, len(values) // LONG_TAIL)
    tail = min(tail, max(1, len(values) // 2))
    run_up = losses.between(onset.step - 2, onset.failed + 1)
    before = losses.between(*onset.window)
    until = losses.between(0, onset.failed + 1)
    expected, source = _expected(trace)
    end, earlier = _middle(values[-tail:]), median(values[-2 * tail : -tail])
    return Loss(
        steps=len(losses),
        first=float(values[0]),
        end=end,
        best=float(finite.min()) if len(finite) else None,
        early=median(values[:TAIL]),
        late_low=_quantile(values[len(values) // 2 :], 0.0),
        late_high=_quantile(values[len(values) // 2 :], 0.9),
        peak=float(values.max()) if len(finite) == len(values) else math.inf,
        pre_median=median(before.values),
        jump_at_onset=_jump(losses.at(onset.step), median(before.values)),
        growth=growth_per_step(run_up),
        rising=rising_share(run_up),
        still_growing=earlier is not None and end > earlier,
        expected=expected,
        expected_from=source,
        unexplained=_unexplained(trace, float(values[0])),
        zero=not values.any(),
        spikes=_spikes(values),
        before_failure=tuple(
            (int(s), float(v)) for s, v in zip(until.steps[-LAST_VALUES:], until.values[-LAST_VALUES:], strict=True)
        ),
    )


def _unexplained(trace: Trace, first: float) -> float | None:
    """An error grows with the square of what is compared. Where the model gave little, the targets are loud."""
    rows = trace.rows("activation")
    nodes = graph_nodes(trace)
    if len(rows) == 0 or not nodes or any(name.startswith(STEEP) for name in nodes):
        return None
    rows = rows[rows["step"] == rows["step"][0]]
    loud = np.maximum(np.abs(rows["low"]), np.abs(rows["high"]))
    return first / (1 + float(loud.max()) ** 2) if np.isfinite(loud).all() and math.isfinite(first) else None


def _spikes(values: Floats) -> int:
    finite = values[np.isfinite(values)]
    if len(finite) < 2 * TAIL or finite.min() < 0:  # an error is positive; a critic's difference may be anything
        return 0
    usual = float(np.median(finite))
    high = finite > SPIKE * max(usual, 1e-30)
    return int((high[:-1] & (finite[1:] <= BACK * usual)).sum())


def _jump(at: float | None, usual: float | None) -> float | None:
    return at / usual if at is not None and usual and math.isfinite(at) else None


def _quantile(values: Floats, share: float) -> float | None:
    return float(np.quantile(values, share)) if len(values) and np.isfinite(values).all() else None


def _middle(values: Floats) -> float:
    """Median that a NaN does not vanish from."""
    return float(np.median(values)) if np.isfinite(values).all() else math.nan


def _places(trace: Trace, labels: Rows) -> NDArray[np.bool_]:
    """Indices that count the rows of a batch, in whatever order: arange, a sorting, a shuffle. No classes."""
    index = [s.id for s in trace.subjects.values() if s.role == "loss" and s.name == "Index"]
    counted = (labels["low"] == 0) & (labels["high"] == elements(trace, labels["shape"]) - 1)
    own: NDArray[np.bool_] = np.isin(labels["subject"], index) & counted
    return own


def _expected(trace: Trace) -> tuple[float | None, str | None]:
    """The largest loss that an untrained model should show on this data."""
    best: tuple[float | None, str | None] = (None, None)
    labels = trace.rows("labels")
    labels = labels[~_places(trace, labels)]
    high = labels["high"][np.isfinite(labels["high"])]
    if len(high) and high.max() >= 1:
        classes = int(high.max()) + 1
        best = (math.log(classes), f"ln {classes} for {classes} classes")
    batches = trace.rows("batch")
    batches = batches[:64]  # the first batches are enough, and a long run has many
    for subject in np.unique(batches["subject"]):
        rows = batches[batches["subject"] == subject]
        counts = elements(trace, rows["shape"])
        with np.errstate(all="ignore"):
            mean_square = median(rows["norm"] ** 2 / counts)
        if mean_square is not None and (best[0] is None or mean_square > best[0]):
            best = (mean_square, "the mean square of the batch")
    return best
