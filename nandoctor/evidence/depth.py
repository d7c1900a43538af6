"""Gradients through the depth of the network: which layers get next to nothing (E21, E33)."""

import math
from dataclasses import dataclass

import numpy as np

from ..trace.schema import BAD, DTYPES
from ..trace.trace import Rows, Trace
from .layers import graph_nodes
from .onset import Onset
from .series import Floats, median
from .sizes import elements

STEPS = 20  # steps at each end that are read
MATRIX = 2  # dimensions of a weight: biases and scales have gradients of their own size
HALVES = tuple(DTYPES.index(name) for name in ("float16", "bfloat16"))


@dataclass(frozen=True)
class Depth:
    matrices: int
    smallest_layer: str | None  # weight matrix whose gradient is the smallest, rms against the largest
    ratio: float | None  # that, median over the first steps
    ratio_late: float | None  # over the last steps
    ordered: float | None  # rank correlation of depth and log gradient: 1 = smaller the nearer to the input
    gain: float | None  # rms of the gradient at the first module's output / at the last's, early, E21
    gain_late: float | None
    half: bool  # the gradients of parameters are in half precision
    saturating: int  # sigmoid and tanh nodes of the first graph
    relative: float | None  # norm of gradient / norm of weight of the smallest matrix, early
    norm_early: float | None  # whole gradient norm
    norm_late: float | None


def gather(trace: Trace, onset: Onset) -> Depth | None:
    rows = trace.rows("parameter_gradient")
    rows = rows[(rows["flags"] & BAD) == 0]
    shapes = {number for number, shape in trace.shapes.items() if len(shape) >= MATRIX}
    kept = rows[np.isin(rows["shape"], list(shapes))]
    if len(kept) == 0:
        return None
    end = int(kept["step"][-1]) + 1
    late_from = max(0, end - STEPS)
    early, late = kept[kept["step"] < STEPS], kept[kept["step"] >= late_from]
    order, sizes = _rms(trace, early)
    _, sizes_late = _rms(trace, late)
    smallest = min(sizes, key=lambda s: sizes[s], default=None)
    largest = max(sizes.values(), default=0.0)
    largest_late = max(sizes_late.values(), default=0.0)
    nodes = graph_nodes(trace)
    outputs = trace.rows("output_gradient")
    outputs = outputs[outputs["mode"] == 0]
    norms = trace.rows("gradient_norm")
    return Depth(
        matrices=len(sizes),
        smallest_layer=trace.subjects[smallest].name if smallest is not None and smallest in trace.subjects else None,
        ratio=sizes[smallest] / largest if smallest is not None and largest > 0 else None,
        ratio_late=sizes_late.get(smallest, 0.0) / largest_late if smallest is not None and largest_late > 0 else None,
        ordered=_ordered(order, sizes),
        gain=_gain(trace, outputs[outputs["step"] < STEPS]),
        gain_late=_gain(trace, outputs[outputs["step"] >= late_from]),
        half=bool(np.isin(kept["dtype"], HALVES).any()),
        saturating=sum(nodes.get(name, 0) for name in ("TanhBackward0", "SigmoidBackward0")),
        relative=_relative(trace, smallest, early),
        norm_early=median(norms["value"][norms["step"] < STEPS]),
        norm_late=median(norms["value"][norms["step"] >= late_from]),
    )


def _rms(trace: Trace, rows: Rows) -> tuple[list[int], dict[int, float]]:
    """Subjects in order of appearance, which is that of the model; median rms of each."""
    subjects, first = np.unique(rows["subject"], return_index=True)
    with np.errstate(all="ignore"):
        rms: Floats = rows["norm"] / np.sqrt(np.maximum(elements(trace, rows["shape"]), 1))
    order = [int(s) for s in subjects[np.argsort(first)]]
    return order, {s: median(rms[rows["subject"] == s]) or 0.0 for s in order}


def _ordered(order: list[int], sizes: dict[int, float]) -> float | None:
    values = np.array([sizes[s] for s in order])
    if len(values) < 3 or len(set(values.tolist())) < 3:
        return None
    ranks = np.argsort(np.argsort(values)).astype(np.float64)
    return float(np.corrcoef(np.arange(len(ranks)), ranks)[0, 1])


def _gain(trace: Trace, rows: Rows) -> float | None:
    gains = []
    for step in np.unique(rows["step"])[:STEPS]:
        here = rows[rows["step"] == step]
        with np.errstate(all="ignore"):
            rms = here["norm"] / np.sqrt(np.maximum(elements(trace, here["shape"]), 1))
        rms = rms[np.isfinite(rms)]
        if len(rms) >= 3 and rms[0] > 0:
            gains.append(float(rms[-1] / rms[0]))  # backward visits the last layer first
    return float(np.median(gains)) if gains else None


def _relative(trace: Trace, subject: int | None, gradients: Rows) -> float | None:
    weights = trace.rows("weight")
    own = weights[weights["subject"] == subject]["norm"] if subject is not None else np.zeros(0)
    gradient = median(gradients[gradients["subject"] == subject]["norm"]) if subject is not None else None
    if len(own) == 0 or gradient is None or not own[0] > 0 or not math.isfinite(own[0]):
        return None
    return gradient / float(own[0])
