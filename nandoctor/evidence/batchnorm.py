"""How many values BatchNorm took its statistics from, and what its backward pass left of the gradient."""

from dataclasses import dataclass

import numpy as np

from ..trace.schema import RECOMPUTED, SKIPPED
from ..trace.trace import Rows, Trace
from .series import median
from .sizes import elements

LAST_STEPS = 50  # steps at the end whose median is a layer's gain: one batch of two equal rows proves nothing


@dataclass(frozen=True)
class BatchNorm:
    fewest: int  # values per channel in the smallest training batch, E8
    step: int
    layer: str
    usual: int  # median over all training batches of that layer
    most: int  # in its largest training batch
    collapse: float | None = None  # rms of the gradient behind a BatchNorm layer / at it: the least of all layers
    collapse_layer: str | None = None


def gather(trace: Trace) -> BatchNorm | None:
    rows = trace.rows("batchnorm_count")
    rows = rows[(rows["mode"] == 0) & np.isfinite(rows["value"])]
    if len(rows) == 0:
        return None
    least = rows[int(np.argmin(rows["value"]))]
    subject = trace.subjects.get(int(least["subject"]))
    own = rows["value"][rows["subject"] == least["subject"]]  # after a flattening a layer sees rows, and no pixels
    collapse, layer = _collapse(trace)
    return BatchNorm(
        fewest=int(np.clip(least["value"], 0, 2**53)),
        step=int(least["step"]),
        layer=subject.name if subject else "",
        usual=int(np.clip(np.median(own), 0, 2**53)),
        most=int(np.clip(own.max(), 0, 2**53)),
        collapse=collapse,
        collapse_layer=layer,
    )


def _collapse(trace: Trace) -> tuple[float | None, str | None]:
    """Backward visits the last layer first: the row behind a BatchNorm's is that of the layer before it."""
    rows = trace.rows("output_gradient")
    rows = rows[(rows["mode"] == 0) & ((rows["flags"] & (RECOMPUTED | SKIPPED)) == 0)]
    if len(rows) < 2:
        return None, None
    steps = np.unique(rows["step"])
    rows = rows[rows["step"] >= steps[-min(LAST_STEPS, len(steps))]]
    with np.errstate(all="ignore"):
        rms = rows["norm"] / np.sqrt(elements(trace, rows["shape"]))
        gains = rms[1:] / rms[:-1]
    together = (rows["step"][1:] == rows["step"][:-1]) & (rows["micro"][1:] == rows["micro"][:-1])
    best: tuple[float | None, str | None] = (None, None)
    for number, name in _norms(trace, rows).items():
        gain = median(gains[together & (rows["subject"][:-1] == number)])
        if gain is not None and (best[0] is None or gain < best[0]):
            best = (gain, name)
    return best


def _norms(trace: Trace, rows: Rows) -> dict[int, str]:
    numbers = [int(number) for number in np.unique(rows["subject"])]
    known = [trace.subjects[number] for number in numbers if number in trace.subjects]
    return {subject.id: subject.name for subject in known if "BatchNorm" in str(subject.module)}
