"""A loss, computed again from other answers of the model: its part of the graph is repeated on what autograd saved.

Only torch operations on saved tensors, never the user's code. What cannot be repeated gives None.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .computed import RULES, TWO, count, shape_of, signed
from .operations import inputs_of, stem
from .values import Graph, is_leaf, order

Rule = Callable[[list[Tensor], Any, Graph], Any]
MOST_NODES = 250  # between the answers and the loss: a loss of more is a network of its own
RESHAPED = ("View", "UnsafeView", "ReshapeAlias", "Unsqueeze", "Squeeze", "Expand", "Flatten")
REDUCTIONS = ("none", "mean", "sum")


def _dim(node: Any, name: str = "dim") -> int:
    return signed(int(getattr(node, f"_saved_{name}")))


def _reduction(node: Any) -> str:
    return REDUCTIONS[int(getattr(node, "_saved_reduction", 1))]


def _constant(node: Any, graph: Graph, name: str, like: Tensor) -> Tensor:
    value = graph.saved(node, name)
    if not isinstance(value, Tensor):
        raise TypeError(name)
    return value.to(like.dtype) if value.is_floating_point() else value


def _target(node: Any, graph: Graph, v: list[Tensor]) -> Tensor:
    return v[1] if len(v) > 1 else _constant(node, graph, "target", v[0])


def _index(v: list[Tensor], node: Any, graph: Graph) -> Tensor:
    indices = graph.saved(node, "indices")
    return v[0][tuple(slice(None) if i is None else i for i in indices)]


def _reduced(v: list[Tensor], node: Any, operation: Callable[..., Tensor]) -> Tensor:
    """Over the dimensions that the node saved; in the shape that it made."""
    dims = getattr(node, "_saved_dim", None)
    kept = bool(getattr(node, "_saved_keepdim", False))
    if dims is None:
        return operation(v[0], tuple(range(v[0].dim())), False) if v[0].dim() else v[0]
    chosen = tuple(signed(int(d)) for d in (dims if isinstance(dims, (tuple, list)) else (dims,)))
    return operation(v[0], chosen or tuple(range(v[0].dim())), kept)


def _nll(v: list[Tensor], node: Any, graph: Graph) -> Tensor:
    weight = graph.saved(node, "weight")
    ignored = int(getattr(node, "_saved_ignore_index", -100))
    return F.nll_loss(
        v[0], graph.saved(node, "target"), None if weight is None else weight.to(v[0].dtype),
        ignore_index=signed(ignored), reduction=_reduction(node),
    )  # fmt: skip


def _slice(v: list[Tensor], node: Any, graph: Graph) -> Tensor:
    place: list[slice] = [slice(None)] * v[0].dim()
    start, end, step = (int(getattr(node, f"_saved_{name}")) for name in ("start", "end", "step"))
    place[_dim(node)] = slice(signed(start), None if end >= 2**62 and end < 2**63 else signed(end), step)
    return v[0][tuple(place)]


def _shaped(v: list[Tensor], node: Any, graph: Graph) -> Tensor:
    shape = shape_of(node) or ()
    return v[0].reshape(shape) if v[0].numel() == count(shape) else v[0].expand(shape)


MORE: dict[str, Rule] = {
    "Sum": lambda v, node, graph: _reduced(v, node, torch.sum),
    "Mean": lambda v, node, graph: _reduced(v, node, torch.mean),
    "Logsumexp": lambda v, node, graph: _reduced(v, node, torch.logsumexp),
    "Exp": lambda v, node, graph: v[0].exp(), "Sqrt": lambda v, node, graph: v[0].sqrt(),
    "Rsqrt": lambda v, node, graph: v[0].rsqrt(), "Reciprocal": lambda v, node, graph: 1 / v[0],
    "Square": lambda v, node, graph: v[0] ** 2, "Cosh": lambda v, node, graph: v[0].cosh(),
    "Sigmoid": lambda v, node, graph: v[0].sigmoid(), "Tanh": lambda v, node, graph: v[0].tanh(),
    "Expm1": lambda v, node, graph: v[0].expm1(), "LogSigmoid": lambda v, node, graph: F.logsigmoid(v[0]),
    "Softplus": lambda v, node, graph: F.softplus(v[0], float(node._saved_beta), float(node._saved_threshold)),
    "LogSoftmax": lambda v, node, graph: v[0].log_softmax(_dim(node)),
    "Softmax": lambda v, node, graph: v[0].softmax(_dim(node)),
    "Maximum": lambda v, node, graph: torch.maximum(v[0], v[1]),
    "Minimum": lambda v, node, graph: torch.minimum(v[0], v[1]),
    "Where": lambda v, node, graph: torch.where(graph.saved(node, "condition"), v[0], v[1]),
    "Gather": lambda v, node, graph: v[0].gather(_dim(node), graph.saved(node, "index")),
    "Index": _index, "Slice": _slice, "NllLoss": _nll, "NllLoss2D": _nll,
    "Select": lambda v, node, graph: v[0].select(_dim(node), signed(int(node._saved_index))),
    "Unbind": lambda v, node, graph: v[0].unbind(_dim(node)),
    "Split": lambda v, node, graph: torch.split(v[0], int(node._saved_split_size), _dim(node)),
    "SplitWithSizes": lambda v, node, graph: torch.split(v[0], [int(n) for n in node._saved_split_sizes], _dim(node)),
    "Permute": lambda v, node, graph: v[0].permute([signed(int(d)) for d in node._saved_dims]),
    "Cat": lambda v, node, graph: torch.cat(v, _dim(node)), "Stack": lambda v, node, graph: torch.stack(v, _dim(node)),
    "MseLoss": lambda v, node, graph: F.mse_loss(v[0], _target(node, graph, v), reduction=_reduction(node)),
    "SmoothL1Loss": lambda v, node, graph: F.smooth_l1_loss(
        v[0], _target(node, graph, v), reduction=_reduction(node), beta=float(node._saved_beta)),
    "HuberLoss": lambda v, node, graph: F.huber_loss(
        v[0], _target(node, graph, v), reduction=_reduction(node), delta=float(node._saved_delta)),
    "BinaryCrossEntropy": lambda v, node, graph: F.binary_cross_entropy(
        v[0], _target(node, graph, v), reduction=_reduction(node)),
    "BinaryCrossEntropyWithLogits": lambda v, node, graph: F.binary_cross_entropy_with_logits(
        v[0], _target(node, graph, v), graph.saved(node, "weight"), reduction=_reduction(node),
        pos_weight=graph.saved(node, "pos_weight")),
    "MaskedFill": lambda v, node, graph: v[0].masked_fill(graph.saved(node, "mask"), 0.0),
    "SoftMarginLoss": lambda v, node, graph: F.soft_margin_loss(
        v[0], _target(node, graph, v), reduction=_reduction(node)),
    "KlDiv": lambda v, node, graph: F.kl_div(
        v[0], _target(node, graph, v), reduction=_reduction(node), log_target=bool(node._saved_log_target)),
    "LinalgVectorNorm": lambda v, node, graph: _reduced(
        v, node, lambda x, dims, kept: torch.linalg.vector_norm(x, float(node._saved_ord), dims, kept)),
    **dict.fromkeys(RESHAPED, _shaped),
}  # fmt: skip
LINEAR = {"Add": (1, 1), "Sub": (1, -1), "Rsub": (-1, 1)}  # of the two sides: constants drop out of a difference
VIEWS = (*RESHAPED, "Clone", "Alias")
UNBENT = frozenset((*VIEWS, "Mul", "Div", "Neg"))  # what was given can be had from what was made
STRAIGHT = frozenset((*VIEWS, *LINEAR, *"Neg Sum Mean Index Gather Select Slice Permute Transpose".split()))
DEEPEST = 6
SIDED = TWO | {"Maximum", "Minimum", "Where", "Cat", "Stack", "Mm", "Bmm", "MseLoss", "SmoothL1Loss", "HuberLoss"}


def _tensor(value: Any) -> Tensor:
    if not isinstance(value, Tensor):
        raise TypeError("no tensor")
    return value


class Unknown(Exception):
    """An operation that cannot be repeated."""


class Again:
    """`known`: what the nodes of these numbers gave. Those that the loss is made of become `answers`."""

    def __init__(self, root: Any, known: dict[int, Tensor]) -> None:
        self.root = root
        self.answers: dict[Any, Tensor] = {}
        self.graph = Graph(root, walk=False)
        self.shifted = False  # by a constant that nobody saved
        self.guessed = False  # a number that the answers were added to, or taken from
        self.depends: dict[Any, bool] = {}
        self.before: dict[Any, Any] = {}
        self._walk(known)

    def _walk(self, known: dict[int, Tensor]) -> None:
        """What was made before the first of them does not depend on any."""
        seen, todo, found, first = {self.root}, [self.root], [], min(known)
        while todo and len(seen) < MOST_NODES:
            node = todo.pop()
            if is_leaf(node) or order(node) < first:
                continue
            found.append(node)
            if order(node) in known:
                value = known[order(node)].double()
                shape = shape_of(node) or ()
                rows = shape[:1] == value.shape[:1] or shape[-1:] == value.shape[-1:]  # flattened, or squeezed
                if len(node._input_metadata) == 1 and count(shape) == value.numel() and rows:
                    self.answers[node] = value.reshape(shape)
                continue
            for edge, (below, output) in enumerate(node.next_functions):
                if below is not None:
                    self.graph.consumers.setdefault(below, []).append((node, edge, output))
                    if below not in seen:
                        seen.add(below)
                        todo.append(below)
        self.whole = not todo
        for node in sorted(found, key=order):
            below = [self.depends.get(given, False) for given, _ in node.next_functions]
            self.depends[node] = node in self.answers or any(below)

    def loss(self, answers: dict[Any, Tensor] | None = None) -> float | None:
        """From other answers; from those that were given, first."""
        values: dict[Any, Any] = {}
        try:
            for node in [n for n, depends in self.depends.items() if depends]:  # in the order of time
                if node in self.answers:
                    values[node] = (answers or self.answers)[node]
                else:
                    values[node] = self._value(node, values, answers is None)
            if answers is None:
                self.before = values
            return float(values[self.root])
        except (Unknown, RuntimeError, TypeError, ValueError, LookupError, AttributeError):
            return None

    def _value(self, node: Any, values: dict[Any, Any], first: bool) -> Any:
        kind = stem(node)[0]
        edges = [below is not None and self.depends.get(below, False) for below, _ in node.next_functions]
        if kind in LINEAR and edges[:2] != [True, True]:
            return self._shifted(node, kind, values, edges, first)
        rule = MORE.get(kind) or RULES.get(kind)
        if rule is None:
            raise Unknown(kind)
        names = inputs_of(kind)
        arguments = []
        for edge, depends in enumerate(edges if kind in SIDED else edges[:1]):
            if depends:
                arguments.append(self._edge(node, edge, values))
                continue
            value = self.graph.input(node, edge) if node.next_functions[edge][0] is not None else None
            if value is None and edge < len(names):
                value = self.graph.saved(node, names[edge])
            arguments.append(self._operand(value))
        if len(arguments) < 2 and kind in TWO:
            arguments.append(self._operand(self.graph.saved(node, names[1])))
        return rule(arguments, node, self.graph)

    @staticmethod
    def _operand(value: Any) -> Tensor:
        if isinstance(value, Tensor):
            return value.detach().double() if value.is_floating_point() else value
        if isinstance(value, (int, float)):
            return torch.as_tensor(float(value), dtype=torch.float64)
        raise Unknown("an operand that nobody saved")

    def _edge(self, node: Any, edge: int, values: dict[Any, Any]) -> Tensor:
        below, output = node.next_functions[edge]
        made = values[below]
        return _tensor(made[output] if isinstance(made, (tuple, list)) else made)

    def _shifted(self, node: Any, kind: str, values: dict[Any, Any], edges: list[bool], first: bool) -> Tensor:
        """One side is no answer: what was made of it moves with the other one."""
        side = 0 if edges[0] else 1
        alpha = getattr(node, "_saved_alpha", 1)
        slope = LINEAR[kind][side] * (alpha if (side == 1) != (kind == "Rsub") else 1)
        given = self._edge(node, side, values)
        if not first:
            return _tensor(self.before[node]) + slope * (given - self._edge(node, side, self.before))
        result = self._made(node)
        shape = shape_of(node) or ()
        if result is None or tuple(result.shape) != shape:
            if bent := not self._straight(node):
                if len(node.next_functions) > 1 and node.next_functions[1 - side][0] is not None:
                    raise Unknown("an operand that nobody saved")
                self.guessed = True  # most often a 1 that it is taken from, or a small number: the loss will tell
            constant = 1.0 if bent and kind == "Rsub" else 0.0
            return constant + (slope * given).expand(shape)
        return result.double()

    def _made(self, node: Any, deep: int = 0) -> Tensor | None:
        """What the node gave, by what was made of it."""
        found = self.graph.output(node)
        shape = shape_of(node) or ()
        for consumer, edge, output in self.graph.consumers.get(node, ()):
            if found is not None or output or deep > DEEPEST:
                break
            kind = stem(consumer)[0]
            if kind in ("Exp", "LogSoftmax"):  # a log_softmax takes a shift of each row out again
                result = self.graph.saved(consumer, "result")
                found = result.detach().double() if isinstance(result, Tensor) else None
                found = found.log() if found is not None and kind == "Exp" else found
            elif kind in UNBENT and (result := self._made(consumer, deep + 1)) is not None:
                factor = self._factor(consumer, kind, edge)
                if factor is not None and result.numel() == count(shape) and bool((factor != 0).all()):
                    found = (result.double() / factor).reshape(shape)
        return found

    def _factor(self, consumer: Any, kind: str, edge: int) -> Tensor | None:
        """By what a node multiplied, where that is no answer."""
        if kind not in ("Mul", "Div"):
            return torch.tensor(-1.0 if kind == "Neg" else 1.0, dtype=torch.float64)
        others = [self.depends.get(b, False) for place, (b, _) in enumerate(consumer.next_functions) if place != edge]
        value = self.graph.saved(consumer, "self" if edge else "other")
        if any(others) or value is None or (kind == "Div" and edge):
            return None
        factor = self._operand(value)
        return 1 / factor if kind == "Div" else factor

    def _straight(self, node: Any) -> bool:
        """Whether nothing bends the value on its way to the loss: then a constant in it is one in the loss. What is
        known again further on is counted from there.
        """
        if node is self.root:
            self.shifted = True
            return True
        for consumer, edge, _ in self.graph.consumers.get(node, ()):
            kind = stem(consumer)[0]
            if kind in LINEAR and self._made(consumer) is not None:
                continue
            fixed = self._factor(consumer, kind, edge) is not None if kind in ("Mul", "Div") else kind in STRAIGHT
            if not fixed or not self._straight(consumer):
                return False
        return True
