"""Alarms: a loss, gradient or weight is not finite. Each becomes one incident with the birth of the value."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..frames import user_place
from ..incident import Incident, Place
from ..names import Layer
from ..run import BadTensor, Birth, Run
from ..stats import is_bad, item, measurable
from . import variables
from .births import kind_of
from .hazards import Hazard, has_singular, hazards
from .linemap import MAX_GRAPHS, Line, LineMap, operation
from .operations import CARRIERS
from .search import Found, Search
from .values import Graph, describe, order

MAX_INCIDENTS = 12  # that count; everything after the first is consequence, but a guard may skip some batches
MAX_LOOKS = 8  # into the user's variables between two backwards: a cell called 64 times in a step must stay cheap
MAX_SKIPPED = 40  # left out by a GradScaler, as designed


class Alarms:
    """Called by the probes. Nothing here runs in a healthy step but the checks of `backward_begins`."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.lines = LineMap(run)
        self.singular = True  # until a graph has been seen: does this model have operations with singular derivatives?
        self.hazards: list[Hazard] = []
        self.filed = 0
        self.skipped = 0
        self.examined: set[int] = set()  # graph nodes whose value was traced already
        self.watched: Incident | None = None  # what `--watch-step` saw

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
        if self.lines.wanted():
            self.lines.start()

    def backward_begins(self, loss: Tensor, value: float) -> None:
        """backward was called: the graph is still whole."""
        run = self.run
        run.loss_finite = math.isfinite(value)
        run.trail.clear()
        self.hazards = []
        mapping = self.lines.mode is not None
        self.lines.stop()
        if loss.grad_fn is None:
            return
        if not run.loss_finite:
            self.non_finite_loss(loss)
        elif mapping or self.singular:
            graph = Graph(loss.grad_fn)
            if mapping:
                self.lines.learn(graph.nodes)
                self.singular = has_singular(graph.nodes) or (self.singular and self.lines.graphs < 1)
            if has_singular(graph.nodes):
                self.singular = True
                self.hazards = hazards(graph, self.lines)
            size = len(graph.nodes)
            if not mapping and size not in self.lines.sizes and self.lines.graphs < MAX_GRAPHS:
                self.lines.start()  # the next graph is noted
            self.lines.sizes.add(size)
        run.stale = True
        run.checked_gradients = False

    def non_finite_loss(self, loss: Tensor) -> None:
        """A loss that is not finite: given to backward, looked at by a guard, or left behind."""
        node = loss.grad_fn
        if node is None or self._full() or order(node) in self.examined:
            return
        self.examined.add(order(node))
        self.lines.stop()
        self._file(self._trace("loss", loss))

    def bad_output(self, output: Tensor) -> None:
        """A model returned NaN or Inf and the user's guard looks at it."""
        if output.grad_fn is not None:
            self.non_finite_loss(output)

    def evaluation(self, layer: Layer, output: Tensor) -> None:
        """A model in evaluation mode returned NaN or Inf."""
        if self.run.recorder.step == 0 or self.filed or self._full():
            return  # before training nothing is sick yet; after an incident it is its consequence
        incident = self._new("evaluation", mode="eval")
        birth = self._first_birth()
        bad = self._bad_parameters()
        if bad is not None:
            self._weights(incident, *bad)
        elif self.run.bad_data:
            self._input(incident, self.run.bad_data[0])
        elif birth is not None:
            self._module(incident, birth)
        else:
            incident.phase, incident.kind = "forward", kind_of(output)
            incident.unknown = "evaluation builds no graph, and no single layer made the value of finite ones"
        self._file(incident)

    def evaluated_value(self, value: Tensor, place: Place) -> None:
        """A number that evaluation computed without a graph is not finite, and somebody looks at it."""
        if self.run.recorder.step == 0 or self.filed or self._full():
            return
        incident = self._new("evaluation", mode="eval", phase="loss", method="module", place=place)
        incident.kind, incident.dtype = kind_of(value), str(value.dtype).removeprefix("torch.")
        incident.unknown = "evaluation builds no graph: the operation that made this number was not seen"
        bad = self._bad_parameters()
        if bad is not None:
            self._weights(incident, *bad)
        elif self.run.bad_data:
            self._input(incident, self.run.bad_data[0])
        self._file(incident)

    def gradients(self, parameters: list[tuple[str, Tensor]], place: Place | None = None) -> None:
        """Gradients are not finite after a backward; if its loss was, they were born in backward."""
        run = self.run
        if run.checked_gradients:
            return
        run.checked_gradients = True
        if not run.loss_finite or self._full():
            return
        incident = self._new("gradient", phase="backward", method="gradients")
        grad = next(p.grad for _, p in parameters if p.grad is not None and is_bad(p.grad))
        incident.kind, incident.dtype = kind_of(grad), str(grad.dtype).removeprefix("torch.")
        if self.watched is not None:
            incident = self.watched
        elif not self._from_hazard(incident):
            self._from_trail(incident, parameters)
        self._file(incident)

    def update(self, name: str, kind: str | None, parameter: Tensor, optimizer: str) -> None:
        """A weight is not finite after the step although its gradient was."""
        if self._full():
            return
        incident = self._new("weight", phase="optimizer", op=optimizer, method="weights")
        incident.layer, incident.module, incident.tensor = name.rpartition(".")[0], kind, name
        incident.place, incident.writer = user_place(), "optimizer"
        incident.kind, incident.dtype = kind_of(parameter), str(parameter.dtype).removeprefix("torch.")
        incident.operands = [describe("weight", parameter)]
        if parameter.grad is not None:
            incident.operands.append(describe("gradient", parameter.grad))
        self._file(incident)

    def foreign_weight(self, name: str, kind: str | None, parameter: Tensor) -> None:
        """A weight was not finite before this step, which was given finite gradients."""
        if not self._full():
            incident = self._new("weight")
            self._weights(incident, name, kind, parameter)
            self._file(incident)

    def scaler_skipped(self) -> None:
        """A GradScaler found Inf and left the step out, as designed."""
        run = self.run
        if run.checked_gradients or not run.loss_finite:
            run.checked_gradients = True
            return
        run.checked_gradients = True
        if self.skipped < MAX_SKIPPED:
            self.skipped += 1
            incident = self._new("gradient", phase="backward", skipped=True, method="gradients")
            self._from_trail(incident, [])
            run.recorder.incident(incident)

    # --- from an alarm to a birth ----------------------------------------------------------------------------
    def _trace(self, alarm: str, loss: Tensor) -> Incident:
        if self.watched is not None:
            return self.watched
        graph = Graph(loss.grad_fn)
        if self.lines.noted:
            self.lines.learn(graph.nodes)
        found = Search(graph, self.run.flags).birth()
        incident = self._new(alarm, kind=kind_of(loss), dtype=str(loss.dtype).removeprefix("torch."))
        bad = self._bad_parameters()
        if bad is not None and (found is None or found.kind != "operation" or self.run.recorder.step == 0):
            self._weights(incident, *bad)
        elif found is not None:
            self._found(incident, found, graph)
        elif self._first_birth() is not None:
            self._module(incident, self._first_birth())  # type: ignore[arg-type]
        elif self.run.bad_data:
            self._input(incident, self.run.bad_data[0])
        else:
            incident.phase = "loss"
            incident.unknown = "the graph does not hold the values that would show where it was born"
        if graph.hooked:
            text = f"{graph.hooked} saved tensors belong to checkpointed blocks and were not unpacked"
            incident.unknown = incident.unknown or (text if incident.op is None else None)
            self.run.recorder.unseen(text)
        return incident

    def _found(self, incident: Incident, found: Found, graph: Graph) -> None:
        if found.kind == "leaf" and found.value is not None:
            name = self._parameter_name(found.value, found.node)
            if name is not None:
                self._weights(incident, *name)
                return
        if found.kind != "operation" or self._fed_by_data(found):
            data = self._data_behind(found)
            if data is not None:
                self._input(incident, data)
                return
            if found.kind == "outside":
                incident.phase = "loss"
                incident.unknown = "a tensor that was computed without a graph was not finite before it was used here"
                return
        node = found.node
        call, line = self.run.locate(order(node)), self.lines.lookup(node, graph.nodes)
        birth = next((b for b in self.run.births if call is not None and b.layer is call.layer), None)
        incident.phase = "loss" if call is None or call.loss else "forward"
        if call is not None and not call.loss:
            incident.layer, incident.module = call.layer.name, call.layer.kind
        incident.op = operation(node, line)
        incident.operands, incident.masked_rows = found.operands, found.masked_rows
        incident.consumers = [operation(n, None) for n in found.path[:8]]
        incident.dtype = _dtype(node) or incident.dtype
        if line is not None:
            incident.place = line.place
        elif birth is not None:
            incident.place = birth.place
        else:
            incident.unknown = "line unknown: this graph has another structure than those whose lines were noted"
        if birth is not None:
            incident.parameters_finite, incident.kind = birth.parameters_finite, birth.kind
            incident.operands = incident.operands or birth.operands
        if not found.certain:
            incident.unknown = incident.unknown or "autograd did not save every input of this operation"

    def _fed_by_data(self, found: Found) -> bool:
        """A tensor from outside the graph went in unsaved, and the batch holds a bad one."""
        if not (self.run.bad_data and not found.masked_rows):
            return False
        return any(below is None for below, _ in found.node.next_functions) or not found.certain

    def _data_behind(self, found: Found) -> BadTensor | None:
        if self.run.bad_data:
            return self.run.bad_data[0]
        if found.kind == "operation" or (self.run.loader_seen and found.kind == "outside"):
            return None  # the whole batch was looked at and is finite
        return variables.bad_tensor(found.value)

    def _input(self, incident: Incident, bad: BadTensor) -> None:
        incident.phase, incident.method = "input", "batch"
        incident.tensor, incident.row, incident.index = bad.path, bad.row, bad.index
        incident.kind, incident.place, incident.dtype = bad.kind, bad.place, bad.dtype
        incident.layer = incident.module = incident.op = None

    def _module(self, incident: Incident, birth: Birth) -> None:
        incident.method = "module"
        incident.phase, incident.layer, incident.module = "forward", birth.layer.name, birth.layer.kind
        incident.op, incident.place = self._module_operation(birth.layer), birth.place
        incident.kind, incident.dtype, incident.operands = birth.kind, birth.dtype, birth.operands
        incident.parameters_finite = birth.parameters_finite

    def _weights(self, incident: Incident, name: str, kind: str | None, parameter: Tensor) -> None:
        run = self.run
        incident.phase, incident.method, incident.tensor = "weights", "weights", name
        incident.layer, incident.module = name.rpartition(".")[0], kind
        incident.kind, incident.dtype = kind_of(parameter), str(parameter.dtype).removeprefix("torch.")
        incident.operands = [describe("weight", parameter)]
        incident.op = None
        if run.foreign == "load_state_dict":
            incident.writer, incident.op, incident.place = "load_state_dict", "load_state_dict", run.foreign_place
        else:
            incident.writer = "initial" if run.recorder.step == 0 else "foreign"
            incident.place = Place()

    def _from_hazard(self, incident: Incident) -> bool:
        singular = [hazard for hazard in self.hazards if bool(item(hazard.singular))]
        if not singular:
            return False
        hazard = max(singular, key=lambda hazard: hazard.number)  # backward reached it first
        incident.op, incident.place = hazard.op, hazard.place
        if hazard.layer is not None and not hazard.loss:
            incident.layer, incident.module = hazard.layer.name, hazard.layer.kind
        if hazard.operand is not None:
            incident.operands = [hazard.operand]
        if hazard.place.line is None:
            incident.unknown = "line unknown: this graph has another structure than those whose lines were noted"
        incident.method = "graph"
        return True

    def _from_trail(self, incident: Incident, parameters: list[tuple[str, Tensor]]) -> None:
        trail = self.run.trail
        first = next((place for place, reached in enumerate(trail) if reached.bad), None)
        layer: Layer | None = None
        if first is not None and first > 0:
            layer = trail[first - 1].layer
            incident.dtype = trail[first].dtype
        elif first is None:
            for name, parameter in parameters:
                if parameter.grad is not None and is_bad(parameter.grad):
                    owner = name.rpartition(".")[0]
                    layer = next((known for known in self.run.names.layers() if known.name == owner), None)
                    break
        if layer is None:
            incident.unknown = "the gradient was bad when it reached the model's outputs, and no operation with a singular derivative was seen"
            return
        incident.layer, incident.module = layer.name, layer.kind
        incident.op = self._module_operation(layer)
        line = self._module_line(layer)
        if line is not None:
            incident.place = line.place

    def _module_line(self, layer: Layer) -> Line | None:
        """The last operation of this module that can make a non-finite value."""
        for (name, kind), calls in reversed(self.lines.known.items()):
            if name == layer.name and kind.rstrip("0123456789") not in CARRIERS and calls:
                return calls[-1][-1]
        return None

    def _module_operation(self, layer: Layer) -> str | None:
        line = self._module_line(layer)
        return line.op if line is not None and line.op else MODULE_OPERATIONS.get(layer.kind, layer.kind.lower())

    def _first_birth(self) -> Birth | None:
        return next((birth for birth in self.run.births if birth.inputs_finite), None)

    def _bad_parameters(self) -> tuple[str, str | None, Tensor] | None:
        """A parameter or buffer of a known model that is not finite now."""
        for model in self.run.names.models:
            top = model.ref()
            if top is None:
                continue
            for path, module in self.run.names.modules(top):
                for name, value in (*module._parameters.items(), *module._buffers.items()):
                    if value is not None and measurable(value) and is_bad(value):
                        if name in module._buffers and not name.startswith("running_"):
                            continue  # a mask of -inf, say: deliberate
                        return model.prefixed(f"{path}.{name}" if path else name), type(module).__name__, value
        return None

    def _parameter_name(self, value: Tensor, node: Any) -> tuple[str, str | None, Tensor] | None:
        variable = getattr(node, "variable", None)
        if variable is None:
            return None
        name, kind = self.run.names.parameter(variable)
        if not name:
            name = variables.name_of(variable) or ("" if isinstance(variable, nn.Parameter) else "")
            if not isinstance(variable, nn.Parameter) and self.run.bad_data:
                return None
        return name or "parameter", kind, variable

    # --- filing ----------------------------------------------------------------------------------------------
    def _new(self, alarm: str, **fields: Any) -> Incident:
        return Incident(alarm=alarm, scale=self.run.scale, **{**self.run.position(), **fields})

    def _full(self) -> bool:
        return self.filed >= MAX_INCIDENTS

    def _file(self, incident: Incident) -> None:
        self.filed += 1
        self.run.recorder.incident(incident)


MODULE_OPERATIONS = {
    "Linear": "linear", "Conv1d": "conv1d", "Conv2d": "conv2d", "Conv3d": "conv3d", "BatchNorm1d": "batch_norm",
    "BatchNorm2d": "batch_norm", "BatchNorm3d": "batch_norm", "LayerNorm": "layer_norm", "Softmax": "softmax",
    "LogSoftmax": "log_softmax", "GroupNorm": "group_norm", "InstanceNorm2d": "instance_norm", "LSTM": "lstm",
    "GRU": "gru", "RNN": "rnn_tanh", "ConvTranspose2d": "conv_transpose2d", "ConvTranspose1d": "conv_transpose1d",
    "CrossEntropyLoss": "cross_entropy", "MSELoss": "mse_loss", "BCELoss": "binary_cross_entropy",
    "RMSNorm": "rms_norm", "Embedding": "embedding", "LSTMCell": "lstm_cell", "GRUCell": "gru_cell",
}  # fmt: skip


def _dtype(node: Any) -> str | None:
    try:
        return str(node._input_metadata[0].dtype).removeprefix("torch.")
    except (AttributeError, IndexError, RuntimeError):
        return None


