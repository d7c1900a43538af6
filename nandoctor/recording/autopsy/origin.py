"""Filling in an incident: where, by what and at which line the value was born, from what the search brought."""

from typing import Any

import torch
from torch import Tensor, nn

from ..incident import Incident, Operand, Place
from ..names import Layer, class_name
from ..run import BadTensor, Birth, Run
from ..stats import is_bad, item, word
from . import custom, prepared, sources, ungraphed, variables, writes
from .births import kind_of
from .expressions import Born
from .hazards import Hazard, first
from .linemap import Line, LineMap, operation
from .operations import CARRIERS
from .search import Found
from .values import Graph, describe, order

HUGE = 1e15  # a gradient below it does not overflow float32 in one layer of ordinary weights and width
HALF_HUGE = 64.0  # nor one below this in float16


class Origin:
    def __init__(self, run: Run, lines: LineMap) -> None:
        self.run, self.lines = run, lines

    def from_graph(self, incident: Incident, found: Found, graph: Graph) -> None:
        if found.kind == "leaf" and found.value is not None:
            name = self._parameter_name(found.value, found.node)
            if name is not None:
                self.from_weights(incident, *name)
                return
        if found.kind == "outside" and ungraphed.told(self, incident, found, graph):
            return
        if not found.certain:
            self.look_for_data()
        if found.kind != "operation" or self._fed_by_data(found):
            data = self._data_behind(found)
            if data is not None:
                self.from_data(incident, data)
                return
            if found.kind == "outside":
                alone = next((b for b in self.run.births if b.inputs_finite and b.start == b.end), None)
                if alone is not None:  # a module without weights, that was given the batch itself
                    self.from_module(incident, alone)
                    return
                incident.phase = "loss"
                incident.unknown = "a tensor that was computed without a graph was not finite before it was used here"
                return
        node = found.node
        call, line = self.run.locate(order(node)), self.lines.lookup(node, graph.nodes)
        birth = next((b for b in self.run.births if call is not None and b.layer.name == call.layer.name), None)
        incident.phase = "loss" if call is None or call.loss else "forward"
        if call is not None and not call.loss:
            incident.layer, incident.module = call.layer.name, call.layer.kind
        if node.name().startswith("CompiledFunction"):
            custom.compiled(incident, birth)
            return
        if custom.told(incident, node, graph, self.lines):
            return
        inside = self.first_birth() if node.name().startswith("CheckpointFunction") else None
        if inside is not None:
            self.from_module(incident, inside)
            return
        incident.op = operation(node, line)
        incident.operands, incident.masked_rows = found.operands, found.masked_rows
        incident.consumers = [operation(n, None) for n in found.path[:8]]
        incident.dtype = _dtype(node) or incident.dtype
        if line is not None:
            incident.place = line.place
        elif birth is not None:
            incident.place = birth.place
        else:
            self._by_source(incident, call.layer if call is not None and not call.loss else None)
        if birth is not None:
            incident.parameters_finite, incident.kind = birth.parameters_finite, birth.kind
            incident.operands = incident.operands or birth.operands
        if not found.certain:
            incident.unknown = incident.unknown or "autograd did not save every input of this operation"

    def _by_source(self, incident: Incident, layer: Layer | None) -> None:
        """The line map does not know this graph: does the operation stand on one line only?"""
        place = sources.place_of(incident.op, layer.ref() if layer is not None else None, self.lines.texts)
        if place is not None:
            incident.place = place
        else:
            incident.unknown = "line unknown: this graph has another structure than those whose lines were noted"

    def from_expression(self, incident: Incident, found: Found, made: Born) -> None:
        """Made by the user's arithmetic without a graph: of the batch before the model saw it, or for the loss."""
        if self.run.bad_data:
            self.from_data(incident, self.run.bad_data[0])
        else:
            call = self.run.locate(order(found.node))
            incident.phase = "loss" if call is None or call.loss else "forward"
            if call is not None and not call.loss:
                incident.layer, incident.module = call.layer.name, call.layer.kind
            incident.op, incident.operands = made.op, made.operands
        incident.place, incident.method = made.place, "expression"

    def _fed_by_data(self, found: Found) -> bool:
        """A tensor from outside the graph went in unsaved, and the batch holds a bad one."""
        if not (self.run.bad_data and not found.masked_rows):
            return False
        return any(below is None for below, _ in found.node.next_functions) or not found.certain

    def look_for_data(self) -> None:
        """The inputs of this step were not recorded: is a variable bad that holds no result?"""
        run = self.run
        if not run.recorder.governor.whole and not run.loader_seen and not run.bad_data:
            found = variables.bad_tensor(None)
            run.bad_data = [found] if found is not None else []

    def _data_behind(self, found: Found) -> BadTensor | None:
        if self.run.bad_data:
            return self.run.bad_data[0]
        if found.kind == "operation" or (self.run.loader_seen and found.kind == "outside"):
            return None  # the whole batch was looked at and is finite
        return variables.bad_tensor(found.value)

    def from_data(self, incident: Incident, bad: BadTensor, made_at: Place | None = None) -> None:
        incident.phase, incident.method = "input", "batch"
        incident.tensor, incident.row, incident.index = bad.path, bad.row, bad.index
        incident.kind, incident.dtype = bad.kind, bad.dtype
        incident.place = made_at or prepared.line(self.lines.tape) or bad.place
        incident.source = bad.source
        incident.layer = incident.module = incident.op = None

    def from_module(self, incident: Incident, birth: Birth) -> None:
        incident.method = "module"
        incident.phase, incident.layer, incident.module = "forward", birth.layer.name, birth.layer.kind
        incident.op, incident.place = self._module_operation(birth.layer) if birth.layer.leaf else None, birth.place
        incident.kind, incident.dtype, incident.operands = birth.kind, birth.dtype, birth.operands
        incident.parameters_finite = birth.parameters_finite
        only = sources.only_leaving(birth.layer.ref()) if not birth.layer.leaf else None
        if only is not None:
            incident.op, incident.place = only
        elif not birth.layer.leaf:
            incident.unknown = "an operation of this module made it, and which one cannot be seen from outside of it"

    def from_weights(self, incident: Incident, name: str, kind: str | None, parameter: Tensor) -> None:
        run = self.run
        incident.phase, incident.method, incident.tensor = "weights", "weights", name
        incident.layer, incident.module = name.rpartition(".")[0], kind
        incident.kind, incident.dtype = kind_of(parameter), word(parameter.dtype)
        incident.operands = [describe("weight", parameter)]
        incident.op = None
        made = run.unchecked(parameter) if run.unchecked is not None and run.foreign is None else None
        if made is not None:  # by the step before, which was not recorded whole
            incident.alarm, incident.phase, incident.writer = "weight", "optimizer", "optimizer"
            incident.op, incident.place = made
            incident.step = max(run.recorder.step - 1, 0)
        elif run.foreign == "load_state_dict":
            incident.writer, incident.op, incident.place = "load_state_dict", "load_state_dict", run.foreign_place
        else:
            incident.writer = "initial" if run.recorder.step == 0 else "foreign"
            written = writes.into_weight(name)
            incident.place = written[1] if written is not None else Place()

    def from_hazard(self, incident: Incident, hazards: list[Hazard]) -> bool:
        singular = [hazard for hazard in hazards if bool(item(hazard.singular))]
        if not singular:
            return False
        hazard = first(singular)
        incident.op, incident.place = hazard.op, hazard.place
        if hazard.layer is not None and not hazard.loss:
            incident.layer, incident.module = hazard.layer.name, hazard.layer.kind
        if hazard.operand is not None:
            incident.operands = [hazard.operand]
        if hazard.masked_rows:  # its NaN was there in forward already, in rows that the loss leaves out
            incident.phase, incident.masked_rows = "loss" if incident.layer is None else "forward", hazard.masked_rows
        if hazard.place.line is None:
            self._by_source(incident, hazard.layer if not hazard.loss else None)
        incident.method = "graph"
        return True

    def from_trail(self, incident: Incident, parameters: list[tuple[str, Tensor]]) -> None:
        trail = self.run.trail
        if not self.run.recorder.governor.whole:
            self._by_gradients(incident, parameters)
            return
        worse = next((place for place, reached in enumerate(trail) if reached.bad), None)
        layer: Layer | None = None
        if worse is not None and worse > 0:
            before = trail[worse - 1]
            layer, incident.dtype = before.layer, word(trail[worse].dtype)
            if before.largest < (HALF_HUGE if before.dtype is torch.float16 else HUGE):
                incident.operands = [Operand("gradient", word(before.dtype), [], -before.largest, before.largest)]
                incident.unknown = (
                    f"the gradient that reached {layer.name} was finite and ordinary (at most {before.largest:.3g}), "
                    f"the next one, at {trail[worse].layer.name}, was not: an operation between the two made it, and "
                    "none with a singular derivative was seen there (a custom autograd function?)"
                )
                return
        elif worse is None:
            if all(reached.largest < HUGE for reached in trail) and custom.edited(incident):
                return
            for name, parameter in parameters:
                if parameter.grad is not None and is_bad(parameter.grad):
                    owner = name.rpartition(".")[0]
                    layer = next((known for known in self.run.names.layers() if known.name == owner), None)
                    break
        if layer is None:
            incident.unknown = (
                "the gradient was bad when it reached the model's outputs, "
                "and no operation with a singular derivative was seen"
            )
            return
        incident.layer, incident.module = layer.name, layer.kind
        incident.op = self._module_operation(layer)
        line = self._module_line(layer)
        if line is not None:
            incident.place = line.place

    def _by_gradients(self, incident: Incident, parameters: list[tuple[str, Tensor]]) -> None:
        """Backward was not watched: the layer nearest to the loss among those whose gradients are bad."""
        bad = [name for name, p in parameters if p.grad is not None and is_bad(p.grad)]
        owner = bad[-1].rpartition(".")[0] if bad else ""
        layer = next((known for known in self.run.names.layers() if known.name == owner), None)
        incident.unknown = "backward was not watched at this step: the operation was in or behind the layer named"
        if layer is not None:
            incident.layer, incident.module = layer.name, layer.kind

    def _module_line(self, layer: Layer) -> Line | None:
        """The last operation of this module that can make a non-finite value."""
        for (name, kind), calls in reversed(self.lines.known.items()):
            if name == layer.name and kind.rstrip("0123456789") not in CARRIERS and calls:
                return calls[-1][-1]
        return None

    def _module_operation(self, layer: Layer) -> str | None:
        line = self._module_line(layer)
        if line is not None and line.op:
            return line.op
        module = layer.ref()  # a user's class is no operation
        known = module is None or type(module).__module__.startswith("torch.nn.")
        return MODULE_OPERATIONS.get(layer.kind, layer.kind.lower()) if known else None

    def first_birth(self) -> Birth | None:
        return next((birth for birth in self.run.births if birth.inputs_finite), None)

    def already_bad(self, incident: Incident) -> bool:
        """Weights or data that were bad before anything was computed of them, if there are such."""
        bad = self.bad_parameters()
        if bad is not None:
            self.from_weights(incident, *bad)
        elif self.run.bad_data:
            self.from_data(incident, self.run.bad_data[0])
        else:
            return False
        return True

    def bad_parameters(self) -> tuple[str, str | None, Tensor] | None:
        """A parameter or buffer of a known model that is not finite now."""
        for model in self.run.names.models:
            top = model.ref()
            if top is None:
                continue
            for path, module in self.run.names.modules(top):
                # running statistics take over what came in; they are to blame only where they are used, not made
                statistics = () if module.training else ("running_mean", "running_var")
                buffers = [(name, value) for name, value in module._buffers.items() if name in statistics]
                for name, value in (*module._parameters.items(), *buffers):
                    if value is not None and is_bad(value):
                        return model.prefixed(f"{path}.{name}" if path else name), class_name(module), value
        return None

    def _parameter_name(self, value: Tensor, node: Any) -> tuple[str, str | None, Tensor] | None:
        variable = getattr(node, "variable", None)
        if variable is None:
            return None
        name, kind = self.run.names.parameter(variable)
        if not name:
            name = variables.name_of(variable)
            if not isinstance(variable, nn.Parameter) and self.run.bad_data:
                return None
        return name or "parameter", kind, variable


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
        return word(node._input_metadata[0].dtype)
    except (AttributeError, IndexError, RuntimeError):
        return None


