"""Values that nobody saved, computed from those that somebody did: an operation is repeated on saved tensors.

Only torch operations, only after an alarm, never the user's code.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .operations import inputs_of, stem
from .values import Graph, is_leaf

Rule = Callable[[list[Tensor], Any, Graph], Tensor]
MAX_ELEMENTS = 50_000_000  # of one value: an alarm may cost a moment, not the machine


def _dims(node: Any, graph: Graph, x: Tensor) -> list[int]:
    dims = graph.saved(node, "dim")
    if dims is None:
        return list(range(x.dim()))
    return [signed(d) for d in (dims if isinstance(dims, (tuple, list)) else (dims,))] or list(range(x.dim()))


def _alpha(node: Any, graph: Graph) -> Any:
    alpha = graph.saved(node, "alpha")
    return 1 if alpha is None else alpha


def _transposed(v: list[Tensor], node: Any, graph: Graph) -> Tensor:
    if stem(node)[0] == "T":
        return v[0].t()
    return v[0].transpose(signed(graph.saved(node, "dim0")), signed(graph.saved(node, "dim1")))


def _clamped(v: list[Tensor], node: Any, graph: Graph) -> Tensor:
    return torch.clamp(v[0], graph.saved(node, "min"), graph.saved(node, "max"))


def _addmm(v: list[Tensor], node: Any, graph: Graph) -> Tensor:
    return torch.addmm(v[0], v[1], v[2])


def _like_output(v: list[Tensor], node: Any, graph: Graph) -> Tensor:
    shape = shape_of(node)
    if shape is None:
        raise TypeError("unknown shape")
    return v[0].expand(shape) if count(shape) != v[0].numel() else v[0].reshape(shape)


RULES: dict[str, Rule] = {
    "Sum": lambda v, node, graph: v[0].sum(dim=_dims(node, graph, v[0])) if v[0].dim() else v[0],
    "Mean": lambda v, node, graph: v[0].mean(dim=_dims(node, graph, v[0])) if v[0].dim() else v[0],
    "Neg": lambda v, node, graph: -v[0],
    "Mul": lambda v, node, graph: v[0] * v[1],
    "Div": lambda v, node, graph: v[0] / v[1],
    "Add": lambda v, node, graph: v[0] + v[1] * _alpha(node, graph),
    "Sub": lambda v, node, graph: v[0] - v[1] * _alpha(node, graph),
    "Pow": lambda v, node, graph: v[0] ** v[1],
    "Abs": lambda v, node, graph: v[0].abs(),
    "Log": lambda v, node, graph: v[0].log(), "Log1P": lambda v, node, graph: v[0].log1p(),
    "Log2": lambda v, node, graph: v[0].log2(), "Log10": lambda v, node, graph: v[0].log10(),
    "Atanh": lambda v, node, graph: v[0].atanh(), "Logit": lambda v, node, graph: v[0].logit(),
    "Sin": lambda v, node, graph: v[0].sin(), "Cos": lambda v, node, graph: v[0].cos(),
    "Relu": lambda v, node, graph: v[0].relu(), "Gelu": lambda v, node, graph: torch.nn.functional.gelu(v[0]),
    "Silu": lambda v, node, graph: torch.nn.functional.silu(v[0]),
    "Clamp": _clamped, "ClampMin": lambda v, node, graph: torch.clamp(v[0], min=graph.saved(node, "min")),
    "ClampMax": lambda v, node, graph: torch.clamp(v[0], max=graph.saved(node, "max")),
    "Addmm": _addmm, "Mm": lambda v, node, graph: v[0] @ v[1], "Bmm": lambda v, node, graph: v[0] @ v[1],
    "Mv": lambda v, node, graph: v[0] @ v[1], "Dot": lambda v, node, graph: v[0].dot(v[1]),
    "View": _like_output, "ReshapeAlias": _like_output, "Unsqueeze": _like_output, "Squeeze": _like_output,
    "UnsafeView": _like_output, "Flatten": _like_output, "Expand": _like_output, "T": _transposed,
    "Transpose": _transposed, "Clone": lambda v, node, graph: v[0], "Alias": lambda v, node, graph: v[0],
    "ToCopy": lambda v, node, graph: v[0].to(dtype_of(node)),
}  # fmt: skip


class Values:
    """Known and computed values of a graph. compute() must be called in the order of the nodes."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._made: dict[Any, Tensor] = {}

    def output(self, node: Any, number: int = 0) -> Tensor | None:
        found = self.graph.output(node, number)
        return self._made.get(node) if found is None and number == 0 else found

    def input(self, node: Any, edge: int) -> Tensor | None:
        """What came in by one edge: from the graph, or from outside where the node saved it."""
        found = self.graph.argument(node, edge)
        below, number = node.next_functions[edge]
        return self.output(below, number) if found is None and below is not None else found

    def compute(self, node: Any) -> Tensor | None:
        """The node's first output, known or made from its inputs. None where an input is unknown."""
        known = self.output(node)
        kind = stem(node)[0]
        rule = RULES.get(kind)
        if known is not None or rule is None or is_leaf(node) or count(shape_of(node) or ()) > MAX_ELEMENTS:
            return known
        arguments = []
        for edge in range(max(len(node.next_functions), len(inputs_of(kind)) if kind in TWO else 1)):
            value = self.input(node, edge) if edge < len(node.next_functions) else None
            if value is None and edge < len(inputs_of(kind)):
                scalar = self.graph.saved(node, inputs_of(kind)[edge])
                value = torch.as_tensor(scalar) if isinstance(scalar, (int, float)) else scalar
            if not isinstance(value, Tensor):
                return None
            arguments.append(value)
        try:
            result = rule(arguments, node, self.graph)
        except (RuntimeError, TypeError, IndexError, AttributeError):
            return None
        shape = shape_of(node)
        if shape is not None and tuple(result.shape) != shape:
            if result.numel() != count(shape):
                return None
            result = result.reshape(shape)
        self._made[node] = result
        return result


TWO = frozenset({"Mul", "Div", "Add", "Sub", "Pow"})


def shape_of(node: Any) -> tuple[int, ...] | None:
    """Shape of the node's first output."""
    try:
        return tuple(node._input_metadata[0].shape)
    except (AttributeError, IndexError, RuntimeError):
        return None


def dtype_of(node: Any) -> torch.dtype:
    found: torch.dtype = node._input_metadata[0].dtype
    return found


def count(shape: tuple[int, ...]) -> int:
    total = 1
    for size in shape:
        total *= size
    return total


def signed(dimension: int) -> int:
    """Autograd shows negative dimensions as unsigned 64-bit numbers."""
    return dimension - (1 << 64) if dimension >= 1 << 63 else dimension
