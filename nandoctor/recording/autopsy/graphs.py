"""What is looked at in the graph of each backward while nothing is wrong."""

from collections import Counter
from dataclasses import asdict

from torch import Tensor

from ..run import Run
from .custom import names_in
from .hazards import Hazard, Way, at_singular, hazards, ways_to_singular
from .linemap import MAX_GRAPHS, LineMap, operation
from .recall import Recall
from .search import Search
from .values import Graph, order

MAX_NODE_NAMES = 100
MAX_ABSORBED = 100  # notes of values that passed 65504 and were divided by
MAX_IN_VAIN = 10  # searches that found none: each costs as much as a forward pass
MAX_SIZES = 64  # shapes of graphs whose singular operations are remembered


class Graphs:
    def __init__(self, run: Run, lines: LineMap) -> None:
        self.run, self.lines = run, lines
        self.recall = Recall(run)
        self.singular: dict[int, list[Way]] = {}  # nodes of a graph -> where its singular operations are
        self.functions: dict[int, list[str]] = {}  # nodes of a graph -> the program's autograd.Functions in it
        self.size = 0  # of the graph watched last
        self.hazards: list[Hazard] = []  # of the backward that runs
        self.looks = self.absorbed = self.in_vain = 0

    def watched(self, loss: Tensor, size: int, mapping: bool) -> None:
        """Nothing is wrong yet. The graph is walked where it is new, is being mapped, or has singular operations."""
        self.looks += 1
        self.size = size
        if not mapping and size in self.singular and not self.singular[size]:
            return
        graph = Graph(loss.grad_fn)
        self.recall.walked(size, graph.nodes)
        if mapping:
            if not self.lines.graphs:
                self._describe(graph)
            self.lines.learn(graph.nodes)
        elif size not in self.singular and self.lines.graphs < MAX_GRAPHS:
            self.lines.start()  # the next graph is noted
        if size not in self.singular:
            self.functions[size] = names_in(graph)
        self.singular[size] = ways_to_singular(graph)
        if self.singular[size]:
            self.hazards = hazards(graph, self.lines)
            taken_in = [h for h in self.hazards if h.fed or h.born or h.op in ("rsqrt", "reciprocal")]
            if taken_in and self.absorbed < MAX_ABSORBED and self.in_vain < MAX_IN_VAIN:
                self._absorbed(graph)

    def _absorbed(self, graph: Graph) -> None:
        """The loss is finite, and something was divided by a value that is not: did float16 make it?"""
        birth = Search(graph, self.run.flags).hidden("float16")
        if birth is None:
            self.in_vain += 1
            return
        self.absorbed += 1
        call, line = self.run.locate(order(birth.node)), self.lines.lookup(birth.node, graph.nodes)
        self.run.recorder.note(
            "absorbed", step=self.run.recorder.step, looks=self.looks, op=operation(birth.node, line),
            layer=call.layer.name if call is not None and not call.loss else None,
            place=asdict(line.place) if line is not None else None,
        )  # fmt: skip

    def unwatched(self, loss: Tensor, size: int) -> None:
        """Nothing is wrong yet, in a step that is not recorded whole."""
        ways = self.singular.get(size)
        if ways is None:  # never seen; lengths may vary without end: only a program with such operations pays
            self.run.recorder.governor.wish()
            if len(self.singular) >= MAX_SIZES and not any(self.singular.values()):
                return
            ways = ways_to_singular(Graph(loss.grad_fn))
            if len(self.singular) < MAX_SIZES:
                self.singular[size] = ways
        if ways and at_singular(loss.grad_fn, ways):
            graph = Graph(loss.grad_fn)
            self.recover(graph, size)
            self.hazards = hazards(graph, self.lines)

    def recover(self, graph: Graph, size: int | None) -> None:
        """What the probes would have kept of this graph is of an older one."""
        run = self.run
        self.recall.restore(graph.nodes, size)
        run.births.clear()
        run.bad_outputs.clear()
        run.flags.clear()
        run.mode = "train"

    def _describe(self, graph: Graph) -> None:
        counts = Counter(node.name() for node in graph.nodes)
        self.run.recorder.note("graph", step=self.run.recorder.step, nodes=dict(counts.most_common(MAX_NODE_NAMES)))
