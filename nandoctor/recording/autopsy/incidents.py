"""Alarms: a loss, gradient or weight is not finite. Each becomes one incident with the birth of the value."""

import math
import re
import threading

from torch import Tensor

from ..frames import user_place
from ..incident import Incident, Place
from ..names import Layer
from ..quiet import quiet
from ..run import Run, sequence_number
from ..stats import is_bad, word
from . import custom, doubts, ungraphed, variables
from .births import kind_of, weight
from .doubts import Doubt
from .graphs import Graphs
from .linemap import LineMap
from .origin import Origin
from .search import Search
from .values import Graph, order
from .watch import Watch

MAX_INCIDENTS = 12  # that count; everything after the first is consequence, but a guard may skip some batches
MAX_LOOKS = 8  # into the user's variables between two backwards: a cell called 64 times in a step must stay cheap
LOSSES = re.compile(r"loss|criterion|cross_entropy|kl_div|nll|mse|bce|perplexity", re.IGNORECASE)  # torch's, users'
MAX_SKIPPED = 40  # left out by a GradScaler, as designed


class Alarms:
    """Called by the probes. Nothing here runs in a healthy step but the checks of `backward_begins`."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.lines = LineMap(run)
        self.graphs = Graphs(run, self.lines)
        run.recorder.late = self.late_gradients
        self.filed = 0
        self.skipped = 0
        self.doubted: Doubt | None = None
        self.drawn, self.looked = -1, 0  # backward calls when a batch was drawn last; looks at variables since
        self.examined: set[int] = set()  # graph nodes whose value was traced already
        self.watch = Watch(run, self.lines)
        self.origin = Origin(run, self.lines)
        self.began = (threading.get_ident(), sequence_number())  # each thread counts for itself

    # --- what the probes say ---------------------------------------------------------------------------------
    def forward_begins(self, layer: Layer) -> None:
        """The outermost module call begins; if this module was called before and no backward followed, a guard may
        have left the loss out, which then still stands in a variable."""
        if layer.began == self.run.recorder.batch and layer.looked < MAX_LOOKS:
            layer.looked += 1
            for loss in variables.left_behind()[:1]:
                self.non_finite_loss(loss)
        elif layer.began != self.run.recorder.batch:
            layer.began, layer.looked = self.run.recorder.batch, 0
        if self.doubted is not None:
            self.doubted.left_out = True  # another batch is on its way
        self.lines.model_called()
        self.watch.forward_begins()

    def ahead(self) -> None:
        """A step has ended, or an optimizer was made."""
        self.lines.ahead()
        self.watch.ahead()

    def drawn_without_backward(self) -> None:
        """Another batch is drawn and no module is watched: a guard may have left the last loss out."""
        if self.drawn == self.run.recorder.batch and self.looked < MAX_LOOKS:
            self.looked += 1
            for loss in variables.left_behind()[:1]:
                self.non_finite_loss(loss)
        elif self.drawn != self.run.recorder.batch:
            self.drawn, self.looked = self.run.recorder.batch, 0

    def quiet_backward(self) -> bool:
        """backward was called on a finite loss: is there nothing to be looked at? False: nothing was done."""
        run, graphs = self.run, self.graphs
        size = graphs.recall.size
        if graphs.singular.get(size) != [] or self.lines.mode is not None or self.watch.on:
            return False
        graphs.recall.end += size
        graphs.hazards = []
        run.loss_finite = True
        run.trail.clear()
        self.lines.paused = None
        run.stale = True
        run.checked_gradients = False
        return True

    def backward_begins(self, loss: Tensor, value: float) -> None:
        """backward was called: the graph is still whole."""
        run = self.run
        run.loss_finite = math.isfinite(value)
        run.trail.clear()
        self.graphs.hazards = []
        mapping = self.lines.mode is not None
        self.lines.stop()
        watched = run.recorder.governor.whole
        run.stale = True
        run.checked_gradients = False
        size = self.graphs.recall.backward_begins()
        if watched:
            self.graphs.recall.keep(size)
        if loss.grad_fn is None:
            return
        doubts.settle(self, loss)
        if not run.loss_finite:
            self.non_finite_loss(loss, size)
        elif watched:
            self.graphs.watched(loss, size, mapping)
        else:
            self.graphs.unwatched(loss, size)
        self.watch.backward_begins(loss)

    def non_finite_loss(self, loss: Tensor, size: int | None = None) -> None:
        """A loss that is not finite: given to backward, looked at by a guard, or left behind.

        size: of its graph, where that is known already (autopsy/recall.py).
        """
        self.run.recorder.land()  # were the gradients of the step before finite?
        node = loss.grad_fn
        if node is None or self._full() or order(node) in self.examined:
            return
        if self.began[0] == threading.get_ident() and order(node) < self.began[1]:
            return  # of an earlier training in this process, left in a variable
        self.examined.add(order(node))
        self.lines.stop()
        with quiet():
            incident = self.trace("loss", loss, size)
        self.file(incident)

    def bad_output(self, output: Tensor) -> None:
        """A model returned NaN or Inf and the user's guard looks at it."""
        if output.grad_fn is not None:
            self.non_finite_loss(output)

    def ended_by(self, output: Tensor) -> None:
        """An exception ended the process after a model had returned NaN or Inf: it was refused, or made the error."""
        if output.grad_fn is not None:
            self.non_finite_loss(output)
            return
        if self.filed or self._full():
            return
        incident = self.run.incident("loss", mode=self.run.mode)
        unknown = "the model was called without a graph: the operation that made the value was not seen"
        self._without_graph(incident, output, unknown)

    def evaluation(self, output: Tensor) -> None:
        """A model in evaluation mode returned NaN or Inf."""
        if self.run.recorder.step == 0 or self.filed or self._full():
            return  # before training nothing is sick yet; after an incident it is its consequence
        incident = self.run.incident("evaluation", mode="eval")
        unknown = "evaluation builds no graph, and no single layer made the value of finite ones"
        self._without_graph(incident, output, unknown)

    def _without_graph(self, incident: Incident, output: Tensor, unknown: str) -> None:
        """File the birth of a bad output, from what was bad before and what the leaf modules showed."""
        birth = self.origin.first_birth()
        if self.origin.already_bad(incident):
            pass
        elif birth is not None:
            self.origin.from_module(incident, birth)
        else:
            incident.phase, incident.kind, incident.unknown = "forward", kind_of(output), unknown
        self.file(incident)

    def evaluated_value(self, value: Tensor, place: Place) -> None:
        """A number that evaluation computed without a graph is not finite, and somebody looks at it."""
        if self.run.recorder.step == 0 or self.filed or self._full() or self.run.nothing_evaluated:
            return
        if kind_of(value) == "-inf" or not LOSSES.search(place.text or ""):
            return  # no loss is -inf; and a statistic that somebody prints moves nothing
        incident = self.run.incident("evaluation", mode="eval", phase="loss", method="module", place=place)
        incident.kind, incident.dtype = kind_of(value), word(value.dtype)
        incident.unknown = "evaluation builds no graph: the operation that made this number was not seen"
        self.origin.already_bad(incident)
        self.file(incident)

    def gradients(self, parameters: list[tuple[str, Tensor]]) -> None:
        """Gradients are not finite after a backward; if its loss was, they were born in backward."""
        run = self.run
        if run.checked_gradients:
            return
        run.checked_gradients = True
        if not run.loss_finite or self._full():
            return
        incident = self.run.incident("gradient", phase="backward", method="gradients")
        grad = next(p.grad for _, p in parameters if p.grad is not None and is_bad(p.grad))
        incident.kind, incident.dtype = kind_of(grad), word(grad.dtype)
        seen = self.watch.birth_in_backward()
        self.origin.look_for_data()
        if run.bad_data:  # an Inf that an activation squashed: the loss is finite, a weight's gradient is not
            self.origin.from_data(incident, run.bad_data[0])
        elif seen is not None:
            incident = seen
        elif not self.origin.from_hazard(incident, self.graphs.hazards):
            self.origin.from_trail(incident, parameters)
            if run.recorder.governor.whole:
                custom.in_backward(incident, self.graphs.functions.get(self.graphs.size, []))
        self.file(incident)

    def update(self, name: str, kind: str | None, parameter: Tensor, optimizer: str) -> None:
        """A weight is not finite after the step although its gradient was."""
        if self._full():
            return
        incident = self.run.incident("weight", phase="optimizer", op=optimizer, method="weights")
        incident.place, incident.writer = user_place(), "optimizer"
        weight(incident, name, kind, parameter)
        self.file(incident)

    def foreign_weight(self, name: str, kind: str | None, parameter: Tensor) -> None:
        """A weight was not finite before this step, which was given finite gradients."""
        if not self._full():
            incident = self.run.incident("weight")
            self.origin.from_weights(incident, name, kind, parameter)
            self.file(incident)

    def late_gradients(self, step: int) -> None:
        """The gradients of a step that has ended were not finite: on an accelerator that is seen a step later."""
        run = self.run
        if self._full() or run.scale is not None:  # a GradScaler looks for itself
            return
        incident = run.incident("gradient", phase="backward", method="gradients", kind="nan")
        incident.step = step
        incident.unknown = "seen a step later, when backward's graph was gone: nandoctor record --watch-step names it"
        self.file(incident)

    def weights_at_the_end(self) -> None:
        """The last step was not recorded whole, and no backward followed that would have shown what it did."""
        bad = self.origin.bad_parameters() if self.run.unchecked is not None and not self.filed else None
        if bad is not None:
            incident = self.run.incident("weight")
            self.origin.from_weights(incident, *bad)
            self.file(incident)

    def scaler_skipped(self) -> None:
        """A GradScaler found Inf and left the step out, as designed."""
        run = self.run
        seen, run.checked_gradients = run.checked_gradients, True
        if seen or not run.loss_finite:
            return
        hopeless = run.recorder.settings.active and run.scale is not None and run.scale <= 1 and not self._full()
        if not hopeless and self.skipped >= MAX_SKIPPED:
            return
        incident = self.watch.birth_in_backward() or run.incident("gradient", phase="backward", method="gradients")
        # what stands at its singular point makes a NaN whatever the scale is
        if incident.op is None and not self.origin.from_hazard(incident, self.graphs.hazards):
            self.origin.from_trail(incident, [])
        if hopeless:  # no loss scale is left that could be at fault, and every step is left out
            incident.kind, incident.dtype = incident.kind or "nan", incident.dtype or "float32"
            self.file(incident)
        else:
            self.skipped += 1
            incident.skipped = True
            run.recorder.incident(incident)

    # --- from an alarm to a birth ----------------------------------------------------------------------------
    def trace(self, alarm: str, loss: Tensor, size: int | None) -> Incident:
        seen = self.watch.birth_of(loss)
        if seen is not None:
            if seen.phase == "loss" and self.run.bad_data:  # a model was given what the program made of its data
                self.origin.from_data(seen, self.run.bad_data[0], seen.place)
            return seen
        graph = Graph(loss.grad_fn)
        if not self.run.recorder.governor.whole:
            self.graphs.recover(graph, size)
        elif self.lines.noted:
            self.lines.learn(graph.nodes)
        found = Search(graph, self.run.flags).birth()
        if graph.hooked and found is not None and not found.certain:
            found = None  # what it was given lies in a checkpointed block
        incident = self.run.incident(alarm, kind=kind_of(loss), dtype=word(loss.dtype))
        bad, birth = ungraphed.bad_state(self.origin, found), self.origin.first_birth()
        if bad is None and (found is None or found.kind == "operation" and not found.certain):
            if ungraphed.repeated(self.origin, incident, graph):
                return incident
        if bad is not None and (found is None or found.kind != "operation" or self.run.recorder.step == 0):
            self.origin.from_weights(incident, *bad)
        elif found is not None:
            self.origin.from_graph(incident, found, graph)
        elif birth is not None:
            self.origin.from_module(incident, birth)
        elif self.run.bad_data:
            self.origin.from_data(incident, self.run.bad_data[0])
        else:
            incident.phase = "loss"
            incident.unknown = "the graph does not hold the values that would show where it was born"
        if graph.hooked:
            self.run.recorder.unseen(ungraphed.left_packed(incident, graph))
        return incident

    # --- filing ----------------------------------------------------------------------------------------------
    def _full(self) -> bool:
        return self.filed >= MAX_INCIDENTS

    def file(self, incident: Incident) -> None:
        self.filed += 1
        self.run.recorder.incident(incident)
