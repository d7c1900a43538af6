"""Gradient norms before any clipping, and how gradients grow from the loss to the first layer."""

import math
from dataclasses import dataclass

import numpy as np

from ..trace.schema import BAD, SCALED
from ..trace.trace import Rows, Trace
from .onset import Onset
from .series import EMPTY, Series, Steps, growth_per_step, median, per_step, rising_share
from .sizes import elements

GAIN_STEPS = 12  # steps before onset whose backward gain is read: enough for a median
TAIL = 10  # steps at the end whose median is "the last norm", as for the loss
MIN_LENGTHS = 8  # batches of different length needed before a correlation says anything


@dataclass(frozen=True)
class Gradients:
    first: float  # norm at the first step
    pre_median: float | None  # before onset
    at_onset: float | None  # the largest finite norm from onset to failure
    spike: float | None  # at_onset / pre_median, E20
    peak: float
    end: float | None  # median of the last steps
    growth: float | None  # factor a step in the run-up
    rising: float | None
    clipped_share: float  # of the steps
    max_norm: float | None  # of the clip calls
    clipped_while_scaled: int  # clip calls that saw gradients still multiplied by the loss scale
    backward_gain: float | None  # rms of the gradient at the first layer / at the last, median before onset, E21
    backward_gain_at_onset: float | None
    length_at_onset: float | None  # size of the input's second dimension, the longest from onset to failure
    usual_length: float | None  # its median before
    length_coupling: float | None  # correlation of the log norm with the length of the input, E22
    fed_bad: str | None = None  # first matrix, where its gradient alone is bad: the next one's, which is not, times x


def series(trace: Trace) -> Series:
    """The norm by step: what clip_grad_norm_ returned where it was called, else as the optimizer saw it."""
    used = trace.rows("gradient_norm")
    norms = per_step(used["step"], used["value"], "norm")
    clips = trace.rows("clip")
    clips = clips[(clips["flags"] & SCALED) == 0]
    if len(clips) == 0:
        return norms
    clipped = per_step(clips["step"], clips["value"], "norm")
    alone = ~np.isin(norms.steps, clipped.steps)
    return per_step(
        np.concatenate([norms.steps[alone], clipped.steps]), np.concatenate([norms.values[alone], clipped.values])
    )


def gather(trace: Trace, norms: Series, losses: Series, onset: Onset) -> Gradients | None:
    if len(norms) == 0:
        return None
    before = norms.between(*onset.window)
    loss = losses.at(onset.failed)
    stop = onset.failed + (loss is None or math.isfinite(loss))  # of a NaN loss every gradient is NaN
    around = norms.between(onset.step, stop).values
    if len(around) == 0:  # the loss was gone at once: what ruined the weights is the step before
        around = norms.between(onset.step - 1, onset.step).values
    known = around[~np.isnan(around)]
    pre, at_onset = median(before.values), float(known.max()) if len(known) else None
    length, usual_length = _length_at(trace, onset)
    clips = trace.rows("clip")
    max_norm = median(clips["max_norm"])
    over = clips["value"] > clips["max_norm"]
    run_up = norms.between(onset.step - 2, onset.failed + 1)
    every = norms.values[np.isfinite(norms.values)]
    return Gradients(
        first=float(norms.values[0]),
        pre_median=pre,
        at_onset=at_onset,
        spike=at_onset / pre if pre and at_onset is not None else None,
        peak=float(every.max()) if len(every) else math.nan,
        end=median(norms.values[-min(TAIL, max(1, len(norms) // 2)) :]),
        growth=growth_per_step(run_up),
        rising=rising_share(run_up),
        clipped_share=len(np.unique(clips["step"][over])) / len(norms),
        max_norm=max_norm,
        clipped_while_scaled=int(((clips["flags"] & SCALED) != 0).sum()),
        backward_gain=_gain(trace, *onset.window),
        backward_gain_at_onset=_gain(trace, onset.step, stop),
        length_at_onset=length,
        usual_length=usual_length,
        fed_bad=_fed_bad(trace),
        length_coupling=_length_coupling(trace, norms),
    )


def _fed_bad(trace: Trace) -> str | None:
    rows = trace.rows("parameter_gradient")
    bad = rows[(rows["flags"] & BAD) != 0]
    here = rows[rows["step"] == bad["step"][0]] if len(bad) else bad
    matrices = [row for row in here if len(trace.shapes.get(int(row["shape"]), ())) > 1]
    alone = len(here) > 2 and int(((here["flags"] & BAD) != 0).sum()) == 1
    if not alone or not matrices or int(matrices[0]["flags"]) & BAD == 0:
        return None
    subject = trace.subjects.get(int(matrices[0]["subject"]))
    return str(subject.name) if subject is not None else None


def _gain(trace: Trace, first: int, stop: int) -> float | None:
    rows = trace.rows("output_gradient")
    rows = rows[(rows["step"] >= max(first, stop - GAIN_STEPS)) & (rows["step"] < stop) & (rows["mode"] == 0)]
    return backward_gain(trace, rows)


def backward_gain(trace: Trace, rows: Rows, zeros: bool = False) -> float | None:
    """rms of the gradient at the first layer / at the last, median of these steps, E21. A layer whose gradient is all
    zeros counts only with `zeros`: it is one that vanished, or one that is not used.
    """
    gains = []
    for step in np.unique(rows["step"]):
        here = rows[rows["step"] == step]
        sizes = elements(trace, here["shape"])
        with np.errstate(all="ignore"):
            rms = here["norm"] / np.sqrt(sizes)
        rms = rms[np.isfinite(rms) & ((rms > 0) | zeros)]
        if len(rms) >= 3 and rms[0] > 0:
            gains.append(float(rms[-1] / rms[0]))  # backward visits the last layer first
    return float(np.median(gains)) if gains else None


def _length_at(trace: Trace, onset: Onset) -> tuple[float | None, float | None]:
    rows = trace.rows("input")
    rows = rows[rows["mode"] == 0]
    lengths = _lengths(trace, rows["step"], rows["shape"])
    around = lengths.between(onset.step, onset.failed + 1).values
    return (float(around.max()) if len(around) else None), median(lengths.between(0, onset.step).values)


def _length_coupling(trace: Trace, norms: Series) -> float | None:
    """Do longer inputs make larger gradients?"""
    rows = trace.rows("input")
    rows = rows[rows["mode"] == 0]
    lengths = _lengths(trace, rows["step"], rows["shape"])
    common, left, right = np.intersect1d(lengths.steps, norms.steps, return_indices=True)
    x, y = lengths.values[left], norms.values[right]
    usable = np.isfinite(y) & (y > 0)
    x, y = x[usable], np.log(y[usable])
    if len(common) < MIN_LENGTHS or len(x) < MIN_LENGTHS or x.std() == 0 or y.std() == 0:
        return None
    return float(np.corrcoef(x, y)[0, 1])


def _lengths(trace: Trace, steps: Steps, shapes: Steps) -> Series:
    """The size of the input's second dimension by step: the length of a sequence, batch first."""
    sizes = {int(s): trace.shapes.get(int(s), ()) for s in np.unique(shapes)}
    long = {shape: size[1] for shape, size in sizes.items() if len(size) >= 2}
    known = np.array([int(s) in long for s in shapes], bool)
    if not known.any():
        return EMPTY
    values = np.array([float(long[int(s)]) for s in shapes[known]])
    return per_step(steps[known], values, "max")
