"""From a non-finite tensor back along non-finite values to the first operation whose inputs were all finite.

First a sweep in the order of time says of each node's output whether it is good, bad, masked or unknown; then a
walk from the loss down the bad ones finds the births that reach it. A deliberate -inf (mask, fill, constant) is no
birth; the softmax over a row that holds nothing else is.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..incident import Operand
from ..stats import word
from .computed import Values, count, dtype_of, shape_of
from .operations import CARRIERS, LINEAR, MASKERS, SOFTMAXES, inputs_of, stem
from .values import Graph, describe, is_leaf, order

GOOD, MASKED, BAD, UNKNOWN = "good", "masked", "bad", "unknown"  # masked: nothing worse than a deliberate -inf
SAFE = 1e30  # sums and differences of values below it stay finite in float32
HALF_SAFE = 3e4  # and in float16
ALMOST_ZERO = 1e-4  # a divisor beyond it makes no Inf of what is ordinary, in float16 neither


@dataclass
class Found:
    """The node that bore the value; or what came in bad from outside the graph."""

    node: Any
    kind: str = "operation"  # operation, outside (data, target, mask), leaf (parameter or other leaf tensor)
    value: Tensor | None = None  # the bad value from outside, or the leaf, or a result that shows where outside is bad
    operands: list[Operand] = field(default_factory=list)
    masked_rows: int = 0
    certain: bool = True  # every input of the node was seen to be finite
    path: list[Any] = field(default_factory=list)  # nodes from the birth towards the loss


class Search:
    def __init__(self, graph: Graph, flags: dict[int, bool]) -> None:
        self.graph = graph
        self.values = Values(graph)
        self.flags = flags  # sequence number of a node -> its output is bad, as the forward probe saw
        self.state: dict[Any, str] = {}
        for node in graph.nodes:
            self.state[node] = self._judge(node)
        self.state[graph.root] = BAD

    # --- the sweep -------------------------------------------------------------------------------------------
    def _judge(self, node: Any) -> str:
        value = self.values.compute(node)
        if value is not None:
            return self._of_value(node, value)
        flag = None if is_leaf(node) else self.flags.get(order(node))
        if flag is not None:
            return BAD if flag else GOOD
        if is_leaf(node) or count(shape_of(node) or ()) == 0:
            return GOOD
        return self._by_inputs(node)

    def _of_value(self, node: Any, value: Tensor) -> str:
        if not value.is_floating_point() or value.numel() == 0:
            return GOOD
        low, high = (float(end) for end in torch.aminmax(value))
        if math.isfinite(low) and math.isfinite(high):
            return GOOD
        if low == -math.inf and math.isfinite(high) or low == high == -math.inf:
            return MASKED if not is_leaf(node) and self._masks(node) else BAD
        return BAD

    def _masks(self, node: Any) -> bool:
        """Whether the -inf in this node's output was put there on purpose, here or further up."""
        states = [self.state.get(below, UNKNOWN) for below, _ in node.next_functions if below is not None]
        kind = stem(node)[0]
        if BAD in states or kind in SOFTMAXES:
            return False
        return MASKED in states or kind in MASKERS

    def _by_inputs(self, node: Any) -> str:
        """An output that nobody saved and that cannot be computed."""
        kind = stem(node)[0]
        states = [self.state.get(below, UNKNOWN) for below, _ in node.next_functions if below is not None]
        given = [value for _, value in self.graph.outside(node) if value.is_floating_point() and value.numel()]
        if kind in OVER_NOTHING and any(n is not None and 0 in (shape_of(n) or ()) for n, _ in node.next_functions):
            return BAD
        if BAD in states or (kind not in MASKERS and any(self._of_value(node, value) == BAD for value in given)):
            return UNKNOWN if kind in HIDING else BAD
        if kind in MASKERS and _open(node):
            return MASKED if all(state in (GOOD, MASKED) for state in states) else UNKNOWN
        if MASKED in states:
            return MASKED if kind in CARRIERS | LINEAR else UNKNOWN
        if states and all(state == GOOD for state in states) and kind in CARRIERS | LINEAR:
            return GOOD
        return UNKNOWN

    # --- the walk --------------------------------------------------------------------------------------------
    def birth(self) -> Found | None:
        """The earliest birth that reaches the root."""
        best: Found | None = None
        todo: list[tuple[Any, list[Any]]] = [(self.graph.root, [])]
        seen: set[Any] = set()
        while todo:
            node, path = todo.pop()
            if node in seen:
                continue
            seen.add(node)
            found, deeper = self._look(node, path)
            todo.extend((below, [node, *path][:64]) for below in deeper)
            if found is not None and (best is None or _better(found, best)):
                best = found
        return best

    def hidden(self, dtype: str) -> Found | None:
        """The first sure birth in this type, whether it reaches the root or not."""
        for node in self.graph.nodes:
            if self.state[node] != BAD or node is self.graph.root or is_leaf(node):
                continue
            found, deeper = self._look(node, [])
            if found is not None and not deeper and found.certain and found.kind == "operation":
                if dtype == word(dtype_of(node)):
                    return found
        return None

    def _look(self, node: Any, path: list[Any]) -> tuple[Found | None, list[Any]]:
        """A birth at a bad (or perhaps bad) node, or the nodes below to look at."""
        if is_leaf(node):
            value = self.graph.output(node)
            return (Found(node, "leaf", value, path=path), []) if self.state[node] == BAD else (None, [])
        kind = stem(node)[0]
        edges = enumerate(node.next_functions)
        below = [(edge, n, self.state.get(n, UNKNOWN)) for edge, (n, _) in edges if n is not None]
        bad = [n for _, n, state in below if state == BAD]
        if kind in SOFTMAXES:
            bad = [n for n in bad if not self._only_masks(n)]
        if bad:
            return None, bad
        operands = self._operands(node, kind)
        outside = self._outside(node, kind, operands, path)
        if outside is not None:
            return outside, []
        unknown = [n for _, n, state in below if state == UNKNOWN]
        if kind in SOFTMAXES:
            masked = self._masked_rows(node, below)
            if masked:
                return Found(node, "operation", None, operands, masked, path=path), []
        if unknown and (kind not in DOMAIN or self.state[node] != BAD or self._divides_in_bounds(node, kind)):
            return None, unknown  # what it was given may have been bad already
        if self.state[node] == UNKNOWN and kind in CARRIERS:
            return None, []
        if kind in CARRIERS and self.state[node] == BAD and not unknown:
            maker = self._behind(node)
            if maker is not None:
                return self._made_behind(maker, node, path), []
        masked = kind in LINEAR and any(state == MASKED for _, _, state in below)  # a sum of -inf: where is it from?
        certain = not unknown and not masked and self.state[node] == BAD
        return Found(node, "operation", None, operands, certain=certain, path=path), []

    def _divides_in_bounds(self, node: Any, kind: str) -> bool:
        """A division by a known number that is neither 0 nor next to it makes nothing that it was not given."""
        by = self.values.input(node, 1) if kind == "Div" and len(node.next_functions) > 1 else None
        if by is None and kind == "Div":
            by = self.graph.saved(node, "other")
        if isinstance(by, (int, float)):
            by = torch.as_tensor(float(by))
        return isinstance(by, Tensor) and by.numel() > 0 and bool((by.detach().abs() > ALMOST_ZERO).all())

    def _operands(self, node: Any, kind: str) -> list[Operand]:
        names = inputs_of(kind)
        found = []
        for edge in range(len(node.next_functions)):
            value = self.values.input(node, edge)
            if value is not None:
                found.append(describe(names[edge] if edge < len(names) else f"input {edge}", value))
        return found

    def _outside(self, node: Any, kind: str, operands: list[Operand], path: list[Any]) -> Found | None:
        """What came in from outside the graph and was bad before."""
        for name, value in self.graph.outside(node):
            operands.append(describe(name, value))
            if value.is_floating_point() and value.numel() and self._of_value(node, value) == BAD:
                return Found(node, "outside", value, operands, path=path)
        result = self.values.output(node)
        if result is not None and result is not self.values.input(node, 0):
            operands.append(describe("result", result))
        if kind in ("Add", "Sub", "Mul", "Rsub") and _open(node) and result is not None:
            sizes = [max(abs(o.low), abs(o.high)) for o in operands if o.role != "result"]
            largest = max(sizes, default=math.inf)
            if kind == "Mul":
                largest = max(largest, math.prod(sizes))
            limit = HALF_SAFE if result.dtype == torch.float16 else SAFE
            if largest < limit:  # finite and ordinary plus what is NaN, or Inf?
                return Found(node, "outside", result, operands, path=path)
        return None

    def _behind(self, carrier: Any) -> Any:
        """What hands on makes nothing: the nearest node below that can have, and whose output nobody saved."""
        for below, _ in carrier.next_functions:
            if below is None or is_leaf(below) or self.values.output(below) is not None:
                continue
            kind = stem(below)[0]
            found = below if kind in LINEAR else self._behind(below) if kind in CARRIERS else None
            if found is not None:
                return found
        return None

    def _made_behind(self, maker: Any, carrier: Any, path: list[Any]) -> Found:
        kind, result = stem(maker)[0], self.values.output(carrier)
        operands = self._operands(maker, kind)
        size = max((max(abs(o.low), abs(o.high)) for o in operands), default=0.0)
        limit = HALF_SAFE if result is not None and result.dtype == torch.float16 else SAFE
        outside = kind in ("Add", "Sub", "Rsub") and any(below is None for below, _ in maker.next_functions)
        if result is not None:
            operands.append(describe("result", result))
        return Found(maker, "outside" if outside and size < limit else "operation", result, operands,
                     certain=False, path=[carrier, *path][:64])  # fmt: skip

    def _only_masks(self, node: Any) -> bool:
        value = self.values.output(node)
        return value is not None and not bool(torch.isnan(value).any()) and not bool((value == math.inf).any())

    def _masked_rows(self, node: Any, below: list[tuple[int, Any, str]]) -> int:
        """Rows of a softmax that held nothing but -inf: of its input where known, else rows of NaN in its result."""
        dimension = self.graph.saved(node, "dim")
        if isinstance(dimension, tuple):
            dimension = dimension[0] if dimension else None
        dimension = -1 if dimension is None else dimension
        dimension = dimension - (1 << 64) if dimension >= 1 << 63 else dimension
        value = self.values.input(node, 0)
        if value is not None and value.is_floating_point():
            return int((value == -math.inf).all(dim=dimension).sum()) if value.dim() else 0
        result = self.graph.saved(node, "result")
        if isinstance(result, Tensor) and all(state in (GOOD, MASKED) for _, _, state in below) and result.dim():
            return int(torch.isnan(result).all(dim=dimension).sum())
        return 0


# leave their domain: make a non-finite value of ordinary ones
DOMAIN = frozenset(
    """Log Log2 Log10 Log1P Sqrt Rsqrt Reciprocal Pow Div Exp Exp2 Expm1 Acos Asin Acosh Atanh Logit Erfinv Tan Sinh
    Cosh Std Var StdMean VarMean LinalgEigh LinalgSvd LinalgInvEx LinalgDet LinalgCholeskyEx Lgamma Digamma
    Xlogy CtcLoss Cumprod Prod Norm LinalgVectorNorm MseLoss Logcumsumexp""".split()
)
# give NaN of no elements at all: the mean of a selection that is empty
OVER_NOTHING = frozenset("Mean Std Var MseLoss SmoothL1Loss HuberLoss BinaryCrossEntropy NllLoss".split())
# may leave a bad value out of their output
HIDING = frozenset(
    "Where MaskedFill IndexPut NanToNum Index IndexSelect Gather Slice Select Clamp ClampMin ClampMax".split()
)


def _open(node: Any) -> bool:
    """Whether an operand came from outside the graph: a constant, a mask, data."""
    edges = node.next_functions
    return any(below is None for below, _ in edges) or len(edges) < len(inputs_of(stem(node)[0])) or stem(node)[0] in (
        "MaskedFill", "Fill", "IndexPut",
    )  # fmt: skip


def _better(new: Found, old: Found) -> bool:
    """The earliest sure birth; an unsure one only for want of better; something that came in bad before all."""
    if new.certain != old.certain:
        return new.certain
    if (new.kind == "operation") != (old.kind == "operation"):
        return new.kind != "operation"
    return order(new.node) < order(old.node)
