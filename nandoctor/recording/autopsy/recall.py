"""Which module made which node of a graph that was built unwatched: remembered from the last watched one of its shape.

Autograd numbers the nodes of a thread in the order in which they are made. Two steps of the same program make the same
nodes in the same order, so a node is known by its distance from the end. A graph of an unknown shape is laid beside a
known one, by the names of its nodes.
"""

from collections import Counter
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from typing import Any

from ..run import Call, Run, sequence_number
from .linemap import locator
from .operations import stem
from .values import is_leaf, order

MAX_SHAPES = 16
VIEWS = frozenset({"T", "Transpose", "View", "ToCopy", "Expand", "Unsqueeze"})  # of a weight, before it is used
MAX_COMPARED = 6_000  # nodes: the comparison takes a second for that many


@dataclass
class Shape:
    end: int  # sequence number at the backward
    calls: list[Call]
    nodes: list[tuple[int, str]]  # distance from the end and name; empty where the graph was not walked


class Recall:
    def __init__(self, run: Run) -> None:
        self.run = run
        self.shapes: dict[int, Shape] = {}  # by the number of nodes made since the backward before
        self.end = 0

    def backward_begins(self) -> int:
        """The number of nodes made since the last backward."""
        size = self.size
        self.end += size
        return size

    @property
    def size(self) -> int:
        """The number of nodes made since the last backward, before the next one."""
        return sequence_number() - self.end

    def keep(self, size: int) -> None:
        """The graph that ends here was watched: run.calls is its own."""
        old = self.shapes.pop(size, None)
        if len(self.shapes) >= MAX_SHAPES:
            self.shapes.pop(next(iter(self.shapes)))
        self.shapes[size] = Shape(self.end, self.run.calls, old.nodes if old is not None else [])

    def walked(self, size: int, nodes: list[Any]) -> None:
        self.shapes[size].nodes = [(order(node) - self.end, node.name()) for node in nodes if not is_leaf(node)]

    def restore(self, nodes: list[Any], size: int | None = None) -> None:
        """Give run.calls the ranges of this graph, which was not watched. No size: its backward has not begun."""
        if size is None:
            size = self.backward_begins()
        here = [(order(node) - self.end, node.name()) for node in nodes if not is_leaf(node)]
        known = self.shapes.get(size)
        if known is not None and (not known.nodes or known.nodes == here):
            moved = self.end - known.end
            self.run.calls = [replace(call, start=call.start + moved, end=call.end + moved) for call in known.calls]
            return
        self.run.calls = self._by_parameters(nodes)
        walked = [shape for shape in self.shapes.values() if shape.nodes]
        if walked and len(here) <= MAX_COMPARED:
            nearest = min(walked, key=lambda shape: abs(len(shape.nodes) - len(here)))
            self.run.calls += self._beside(nearest, here)

    def _beside(self, shape: Shape, here: list[tuple[int, str]]) -> list[Call]:
        """A call of one node for each node that has a partner in the known graph."""
        names = [name for _, name in shape.nodes], [name for _, name in here]
        calls, locate = [], locator(shape.calls)
        for block in SequenceMatcher(None, *names, autojunk=False).get_matching_blocks():
            for offset in range(block.size):
                there, place = shape.nodes[block.a + offset][0], here[block.b + offset][0]
                call = locate(there + shape.end)
                if call is not None:
                    start = place + self.end
                    calls.append(replace(call, start=start, end=start + 1))
        return calls

    def _by_parameters(self, nodes: list[Any]) -> list[Call]:
        """A call of one node for each node that was given a parameter, at once or through a view of it."""
        layers = {layer.name: layer for layer in self.run.names.layers()}
        calls: list[Call] = []
        counts: Counter[str] = Counter()
        for node in nodes:
            owner = None if is_leaf(node) else self._owner(node)
            if owner is not None and (layer := layers.get(owner)) is not None:
                calls.append(Call(layer, counts[layer.name], order(node), order(node) + 1))
                counts[layer.name] += 1
        return calls

    def _owner(self, node: Any) -> str | None:
        """Name of the layer whose parameter goes into this node."""
        for below, _ in node.next_functions:
            if below is not None and not is_leaf(below) and stem(below)[0] in VIEWS and below.next_functions:
                below = below.next_functions[0][0]
            variable = getattr(below, "variable", None)
            if variable is not None and stem(node)[0] not in VIEWS:
                return self.run.names.parameter(variable)[0].rpartition(".")[0]
        return None
