"""Gradients through the depth of the network: which layers get next to nothing (E21, E33)."""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from ..trace.schema import BAD
from ..trace.trace import Rows, Trace
from .gradients import backward_gain
from .layers import graph_nodes
from .precision import HALVES
from .series import median
from .sizes import root_mean_square

STEPS = 20  # steps that are read, from the first on
PASSES = 30.0  # times the gradient, nearer to the input: it flows past this one, which is merely insensitive
MATRIX = 2  # dimensions of a weight: biases and scales have gradients of their own size


@dataclass(frozen=True)
class Depth:
    matrices: int
    smallest_layer: str | None  # weight matrix whose gradient is the smallest, rms against the largest of its branch
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
    ratio, smallest = min((_ratio(sizes, branch) for branch in branches(trace, kept, order)), default=(None, None))
    nodes = graph_nodes(trace)
    outputs = trace.rows("output_gradient")
    outputs = outputs[outputs["mode"] == 0]
    return Depth(
        matrices=len(sizes),
        smallest_layer=trace.subjects[smallest].name if smallest is not None and smallest in trace.subjects else None,
        ratio=ratio,
        ordered=_ordered(order, sizes),
        gain=backward_gain(trace, outputs[outputs["step"] < STEPS], zeros=True),
        half=bool(np.isin(kept["dtype"], HALVES).any()),
        saturating=sum(nodes.get(name, 0) for name in ("TanhBackward0", "SigmoidBackward0")),
    )


def _rms(trace: Trace, rows: Rows) -> tuple[list[int], dict[int, float]]:
    """Subjects in order of appearance, which is that of the model; median rms of each."""
    subjects, first = np.unique(rows["subject"], return_index=True)
    size = root_mean_square(trace, rows)
    order = [int(s) for s in subjects[np.argsort(first)]]
    return order, {s: median(size[rows["subject"] == s]) or 0.0 for s in order}


def branches(trace: Trace, rows: Rows, order: list[int]) -> list[list[int]]:
    """The weight matrices of parts that stand side by side, and of the rest: gradients do not flow from one to another.

    Side by side are named parts of one parent that begin alike (an actor and a critic, two towers), not `layers.0` and
    `layers.1`, which follow each other.
    """
    shapes = dict(zip(rows["subject"].tolist(), rows["shape"].tolist(), strict=True))
    first: dict[str, tuple[str, str, int]] = {}  # part -> its parent, the first matrix in it and that one's shape
    for subject in order:
        path = trace.subjects[subject].name.split(".") if subject in trace.subjects else []
        for depth in range(1, len(path) - 1):
            part = ".".join(path[:depth])
            inside = ".".join(path[depth:])
            first.setdefault(part, (".".join(path[: depth - 1]), inside, shapes[subject]))
    beginnings = Counter(beginning for part, beginning in first.items() if not part[-1:].isdigit())
    parallel = [part for part, beginning in first.items() if beginnings[beginning] > 1 and not part[-1:].isdigit()]
    found: dict[str, list[int]] = {}
    for subject in order:
        name = trace.subjects[subject].name if subject in trace.subjects else ""
        branch = max((part for part in parallel if name.startswith(part + ".")), key=len, default="")
        found.setdefault(branch, []).append(subject)
    return list(found.values())


def _ratio(sizes: dict[int, float], branch: list[int]) -> tuple[float, int]:
    """The smallest gradient against the largest, and whose it is. All zero: nothing is smaller than the rest.
    A matrix that the gradient flows past counts for nothing: scores of an attention over equal values, say.
    """
    passed = [any(sizes[e] > PASSES * sizes[s] for e in branch[:place]) for place, s in enumerate(branch)]
    smallest = min((s for s, past in zip(branch, passed, strict=True) if not past), key=lambda s: sizes[s])
    largest = max(sizes[s] for s in branch)
    return (sizes[smallest] / largest if largest > 0 else 1.0), smallest


def _ordered(order: list[int], sizes: dict[int, float]) -> float | None:
    values = np.array([sizes[s] for s in order])
    if len(values) < 3 or len(set(values.tolist())) < 3:
        return None
    ranks = np.argsort(np.argsort(values)).astype(np.float64)
    return float(np.corrcoef(np.arange(len(ranks)), ranks)[0, 1])
