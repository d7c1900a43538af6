"""Gradients through the depth of the network: which layers get next to nothing (E21, E33)."""

from dataclasses import dataclass

import numpy as np

from ..trace.schema import BAD
from ..trace.trace import Rows, Trace
from .gradients import backward_gain
from .layers import graph_nodes
from .precision import HALVES
from .series import Floats, median
from .sizes import elements

STEPS = 20  # steps that are read, from the first on
MATRIX = 2  # dimensions of a weight: biases and scales have gradients of their own size


@dataclass(frozen=True)
class Depth:
    matrices: int
    smallest_layer: str | None  # weight matrix whose gradient is the smallest, rms against the largest
    ratio: float | None  # that, median over the first steps
    ordered: float | None  # rank correlation of depth and log gradient: 1 = smaller the nearer to the input
    gain: float | None  # rms of the gradient at the first module's output / at the last's, early, E21
    half: bool  # the gradients of parameters are in half precision
    saturating: int  # sigmoid and tanh nodes of the first graph


def gather(trace: Trace) -> Depth | None:
    rows = trace.rows("parameter_gradient")
    rows = rows[(rows["flags"] & BAD) == 0]
    shapes = {number for number, shape in trace.shapes.items() if len(shape) >= MATRIX}
    kept = rows[np.isin(rows["shape"], list(shapes))]
    if len(kept) == 0:
        return None
    order, sizes = _rms(trace, kept[kept["step"] < STEPS])
    smallest = min(sizes, key=lambda s: sizes[s], default=None)
    largest = max(sizes.values(), default=0.0)
    nodes = graph_nodes(trace)
    outputs = trace.rows("output_gradient")
    outputs = outputs[outputs["mode"] == 0]
    return Depth(
        matrices=len(sizes),
        smallest_layer=trace.subjects[smallest].name if smallest is not None and smallest in trace.subjects else None,
        ratio=sizes[smallest] / largest if smallest is not None and largest > 0 else None,
        ordered=_ordered(order, sizes),
        gain=backward_gain(trace, outputs[outputs["step"] < STEPS], zeros=True),
        half=bool(np.isin(kept["dtype"], HALVES).any()),
        saturating=sum(nodes.get(name, 0) for name in ("TanhBackward0", "SigmoidBackward0")),
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
