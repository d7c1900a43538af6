"""What is known of the values in a graph: read from what autograd saved, never by running anything of the user's.

Saved tensors that have hooks are not unpacked: with activation checkpointing that would run the user's forward again.
"""

from typing import Any

import torch
from torch import _C, Tensor

from ..incident import Operand
from ..stats import allocated, is_countable, is_dense, local, measure_integers, word
from .operations import inputs_of, stem

MAX_NODES = 1_000_000  # of one graph


class Graph:
    """The graph below one tensor, its nodes in the order in which they were made."""

    def __init__(self, root: Any, walk: bool = True) -> None:
        self.root = root
        self.consumers: dict[Any, list[tuple[Any, int, int]]] = {}  # node -> (consumer, its edge, output of node)
        self.hooked = 0  # saved tensors that were left packed
        self.nodes: list[Any] = []
        if walk:
            self._walk(root)

    def _walk(self, root: Any) -> None:
        seen = {root}
        todo = [root]
        while todo and len(seen) < MAX_NODES:
            node = todo.pop()
            for edge, (below, output) in enumerate(node.next_functions):
                if below is None:
                    continue
                self.consumers.setdefault(below, []).append((node, edge, output))
                if below not in seen:
                    seen.add(below)
                    todo.append(below)
        self.nodes = sorted(seen, key=order)

    def saved(self, node: Any, name: str) -> Any:
        """node._saved_<name>, or None where there is none, it is freed already, or it has hooks."""
        if packed(node, name):
            self.hooked += 1
            return None
        return unpacked(node, name)

    def output(self, node: Any, number: int = 0) -> Tensor | None:
        """The value a node made: saved by itself as its result, or by a consumer as its input, or computed."""
        if is_leaf(node):
            value = getattr(node, "variable", None)
            if not isinstance(value, Tensor) or not allocated(local(value)):
                return None
            return local(value).detach()
        if number == 0:
            for name in ("result", "output", "values"):
                found = self.saved(node, name)
                if isinstance(found, Tensor) and _fits(node, number, found):
                    return found.detach()
        for consumer, edge, output in self.consumers.get(node, ()):
            if output == number:
                found = self.argument(consumer, edge)
                if found is not None and _fits(node, number, found):
                    return found
        return None

    def argument(self, node: Any, edge: int) -> Tensor | None:
        """The value that came in by one edge, as the node itself saved it."""
        names = inputs_of(stem(node)[0])
        for name in (names[edge] if edge < len(names) else "", "input" if edge == 0 and len(names) == 1 else ""):
            found = self.saved(node, name) if name else None
            if isinstance(found, Tensor):
                return found.detach()
        return None

    def input(self, node: Any, edge: int) -> Tensor | None:
        """The value that came in by one edge, by whatever way it can be known."""
        found = self.argument(node, edge)
        below, output = node.next_functions[edge]
        if found is None and below is not None:
            found = self.output(below, output)
        return found

    def outside(self, node: Any) -> list[tuple[str, Tensor]]:
        """What the node saved that came from outside the graph: data, targets, masks."""
        found = []
        names = inputs_of(stem(node)[0])
        edges = node.next_functions
        for position, name in enumerate(names):
            if position >= len(edges) or edges[position][0] is None:
                value = self.saved(node, name)
                if isinstance(value, Tensor):
                    found.append((name, value.detach()))
        for name in ("target", "condition", "mask", "weight", "indices"):
            if name not in names:
                value = self.saved(node, name)
                if isinstance(value, Tensor):
                    found.append((name, value.detach()))
        return found


def order(node: Any) -> int:
    """Place in time; leaves first."""
    number = node._sequence_nr()
    return -1 if number >= 1 << 63 else int(number)


def is_leaf(node: Any) -> bool:
    return bool(node.name().endswith("AccumulateGrad"))


class Hooks:
    """Whether saved tensors may have hooks where torch does not tell of each (before 2.5 or so): probes/saved.py."""

    told = hasattr(_C._autograd.SavedTensor, "unpack_hook")
    used = False


def _has_hooks(raw: Any) -> bool:
    if not Hooks.told:
        return Hooks.used
    try:
        return getattr(raw, "unpack_hook", None) is not None
    except RuntimeError:
        return False


def _fits(node: Any, number: int, value: Tensor) -> bool:
    """Whether a saved value has the shape that the node's output has (broadcasting and views may differ)."""
    try:
        meta = node._input_metadata[number]
        return tuple(meta.shape) == tuple(value.shape)
    except (AttributeError, IndexError, RuntimeError):
        return True


def packed(node: Any, name: str) -> bool:
    """Whether node._saved_<name> has hooks: reading it would run them."""
    try:
        raw = getattr(node, f"_raw_saved_{name}", None)
    except RuntimeError:  # an earlier backward freed it
        return False
    return raw is not None and not isinstance(raw, (tuple, list)) and _has_hooks(raw)


def unpacked(node: Any, name: str) -> Any:
    """node._saved_<name>; None where there is none, or an earlier backward freed it."""
    try:
        value = getattr(node, f"_saved_{name}", None)
    except RuntimeError:
        return None
    if isinstance(value, Tensor) and not (is_dense(value) and allocated(value)):
        return None
    return value


def describe(role: str, value: Tensor) -> Operand:
    """Range over the finite elements, counts of the rest."""
    x = local(value).detach()
    operand = Operand(role, word(x.dtype), list(x.shape), float("nan"), float("nan"))
    if is_countable(x):
        operand.low, operand.high, _ = measure_integers(x)
    if not x.is_floating_point() or x.numel() == 0:
        return operand
    finite = x[torch.isfinite(x)]
    if finite.numel():
        operand.low, operand.high = float(finite.min()), float(finite.max())
    operand.nan, operand.inf = int(torch.isnan(x).sum()), int(torch.isinf(x).sum())
    operand.zeros = int((x == 0).sum())
    return operand
