"""Operations whose derivative is singular where they stood: the births of a NaN in backward while the loss is finite.

Their operands must be read before backward frees them, so each backward of a model that has such operations looks at
them first. Verified on torch 2.13: norm, cdist, std and atan2 at zero have a finite gradient and are not here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..incident import Operand, Place
from ..names import Layer
from ..stats import is_bad
from .computed import Values, signed
from .linemap import LineMap, operation
from .operations import MASKERS, stem
from .values import Graph, describe, order

Reader = Callable[[Graph, Any], Tensor | None]  # a bool tensor: some element stands at the singular point


def _saved(name: str, test: Callable[[Tensor], Tensor]) -> Reader:
    def read(graph: Graph, node: Any) -> Tensor | None:
        value = graph.saved(node, name)
        if not isinstance(value, Tensor) and name == "self":
            value = graph.input(node, 0)
        return test(value).any() if isinstance(value, Tensor) and value.numel() else None

    return read


def _zero(x: Tensor) -> Tensor:
    return x == 0


def _bad(x: Tensor) -> Tensor:
    return ~torch.isfinite(x)


def _zero_or_bad(x: Tensor) -> Tensor:
    return (x == 0) | ~torch.isfinite(x)


def _one(x: Tensor) -> Tensor:
    return x.abs() >= 1


def _divisor(graph: Graph, node: Any) -> Tensor | None:
    value = graph.saved(node, "other")
    if not isinstance(value, Tensor):
        return None
    # 1/x^2 overflows below about 1e-19 in float32: the derivative is what counts
    return ((1 / value.detach() ** 2).isinf() | ~torch.isfinite(value)).any()


def _power(graph: Graph, node: Any) -> Tensor | None:
    base, exponent = graph.saved(node, "self"), graph.saved(node, "exponent")
    if not isinstance(base, Tensor):
        return None
    x, p = base.detach(), exponent.detach() if isinstance(exponent, Tensor) else exponent
    derivative = p * x ** (p - 1)
    return (~torch.isfinite(derivative)).any()


def _equal_eigenvalues(name: str) -> Reader:
    def read(graph: Graph, node: Any) -> Tensor | None:
        values = graph.saved(node, name)
        if not isinstance(values, Tensor) or values.shape[-1] < 2:
            return None
        ordered = values.detach().sort(dim=-1).values
        gap = ordered.diff(dim=-1).abs()
        return (gap <= ordered.abs().amax() * torch.finfo(values.dtype).eps).any()

    return read


SINGULAR: dict[str, Reader] = {
    "Sqrt": _saved("result", _zero_or_bad),
    "Rsqrt": _saved("result", _zero_or_bad),  # 0: of Inf, which it takes in
    "Reciprocal": _saved("result", _zero_or_bad),
    "Pow": _power,
    "Log": _saved("self", lambda x: x <= 0), "Log2": _saved("self", lambda x: x <= 0),
    "Log10": _saved("self", lambda x: x <= 0), "Log1P": _saved("self", lambda x: x <= -1),
    "Acos": _saved("self", _one), "Asin": _saved("self", _one), "Atanh": _saved("self", _one),
    "Acosh": _saved("self", lambda x: x <= 1),
    "Div": _divisor,
    "Exp": _saved("result", _bad), "Exp2": _saved("result", _bad), "Expm1": _saved("result", _bad),
    "Sinh": _saved("self", lambda x: x.cosh().isinf()), "Cosh": _saved("self", lambda x: x.cosh().isinf()),
    "Tan": _saved("result", _bad),
    "Logit": _saved("self", lambda x: (x <= 0) | (x >= 1)), "Erfinv": _saved("self", _one),
    "Logsumexp": _saved("result", _bad),
    "Softmax": _saved("result", torch.isnan),
    "LinalgEigh": _equal_eigenvalues("eigenvalues"), "LinalgSvd": _equal_eigenvalues("S"),
    "LinalgEig": _equal_eigenvalues("eigenvalues"),
}  # fmt: skip


def _can_be_singular(graph: Graph, node: Any) -> bool:
    """Not x ** 2 nor x / constant, which are everywhere and harmless."""
    kind = stem(node)[0]
    if kind == "Softmax":  # over masked scores: a row that holds nothing else may be left out of the loss again
        below = node.next_functions[0][0]
        return below is not None and stem(below)[0] in MASKERS
    if kind == "Pow":
        exponent = graph.saved(node, "exponent")
        return not isinstance(exponent, (int, float)) or exponent < 1
    if kind == "Div":
        edges = node.next_functions
        if len(edges) < 2 or edges[1][0] is None:
            divisor = graph.saved(node, "other")
            return isinstance(divisor, Tensor) and divisor.dim() > 0
    return kind in SINGULAR


@dataclass
class Hazard:
    """A singular operation of the graph that backward is about to run. Holds no node: that would keep the graph."""

    number: int
    singular: Tensor  # bool, perhaps on an accelerator: read on alarm only
    layer: Layer | None  # None: made in the loss
    loss: bool
    op: str
    place: Place
    operand: Operand | None
    fed: bool  # its operand was not finite already: a consequence
    born: bool  # of finite operands it made a value that is not finite, which was masked out of the loss again
    masked_rows: int = 0  # of a softmax


FROM_RESULT = frozenset({"Sqrt", "Rsqrt", "Reciprocal", "Exp", "Expm1", "Exp2", "Tan"})  # save what they gave back


def hazards(graph: Graph, lines: LineMap) -> list[Hazard]:
    """The singular operations of a graph whose operands could be read; on a CPU only those that stand at the point."""
    found = []
    values = Values(graph)
    for node in graph.nodes:
        if not _can_be_singular(graph, node):
            continue
        reader = SINGULAR[stem(node)[0]]
        try:
            singular = reader(graph, node)
        except (RuntimeError, TypeError):
            continue
        if singular is None or (singular.device.type == "cpu" and not bool(singular)):
            continue
        operand, role = graph.saved(node, "self"), "operand"
        if not isinstance(operand, Tensor):
            operand = graph.saved(node, "result")
            known = isinstance(operand, Tensor) and operand.device.type == "cpu"
            given = values.input(node, 0) if known and stem(node)[0] in FROM_RESULT else None
            operand, role = (operand, "result") if given is None else (given, "operand")
        known = isinstance(operand, Tensor) and operand.device.type == "cpu"
        fed = known and any(_is_bad_here(node, values.input(node, edge)) for edge in range(len(node.next_functions)))
        made = values.compute(node) if known and not fed else None
        call, line = lines.run.locate(order(node)), lines.lookup(node, graph.nodes)
        found.append(
            Hazard(
                order(node), singular, call.layer if call is not None else None, call is None or call.loss,
                operation(node, line), line.place if line is not None else Place(),
                describe(role, operand) if known else None, fed, is_bad(made),
                _masked_rows(node, graph) if known and not fed else 0,
            )  # fmt: skip
        )
    return found


def _is_bad_here(node: Any, value: Tensor | None) -> bool:
    """A softmax may be given -inf."""
    if value is not None and stem(node)[0] == "Softmax":
        return bool(torch.isnan(value).any()) or bool((value == torch.inf).any())
    return is_bad(value)


def _masked_rows(node: Any, graph: Graph) -> int:
    result = graph.saved(node, "result") if stem(node)[0] == "Softmax" else None
    return int(torch.isnan(result).all(dim=signed(node._saved_dim)).sum()) if isinstance(result, Tensor) else 0


def first(singular: list[Hazard]) -> Hazard:
    """The birth among those that stand at their singular point.

    A value that was born bad in forward and masked out again comes before all it was handed to; where all values are
    finite, the one that backward reached first.
    """
    born = [hazard for hazard in singular if hazard.born]
    if born:
        return min(born, key=lambda hazard: hazard.number)
    return max([hazard for hazard in singular if not hazard.fed] or singular, key=lambda hazard: hazard.number)


@dataclass(frozen=True)
class Way:
    """From the root of a graph to one of its singular operations: at each node, the edge to follow."""

    edges: tuple[int, ...]
    name: str


def ways_to_singular(graph: Graph) -> list[Way]:
    """Each backward of this model must be looked at beforehand where there are any."""
    ways = []
    for node in graph.nodes:
        if _can_be_singular(graph, node):
            edges: list[int] = []
            above = node
            while above is not graph.root:
                above, edge, _ = graph.consumers[above][0]
                edges.append(edge)
            ways.append(Way(tuple(reversed(edges)), node.name()))
    return ways


def at_singular(root: Any, ways: list[Way]) -> bool:
    """Whether an operation stands at its singular point, in a graph of the same shape that is not walked whole."""
    glance = Graph(root, walk=False)
    for way in ways:
        node = root
        for edge in way.edges:
            below = node.next_functions
            node = below[edge][0] if edge < len(below) else None
            if node is None:
                return True  # another shape: look at all of it
        if node.name() != way.name:
            return True
        try:
            singular = SINGULAR[stem(node)[0]](glance, node)
        except (RuntimeError, TypeError):
            continue
        if singular is not None and singular.device.type == "cpu" and bool(singular):
            return True
    return False
