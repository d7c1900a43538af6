"""What the probes share about the training that runs: which module calls made which graph nodes, what was seen bad."""

import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import _C, Tensor, nn

from .incident import Incident, Place
from .names import Layer, Model, Names, class_name
from .recorder import Recorder

sequence_number = _C._autograd._get_sequence_nr  # of the next graph node that this thread makes
MAX_CALLS = 50_000  # module calls kept of one graph: forwards that no backward ever follows must not pile up


@dataclass
class Call:
    """One call of a module, and the range of autograd nodes made during it."""

    layer: Layer
    number: int  # call of that layer in this step
    start: int
    end: int
    loss: bool = False  # a loss module after the model: phase loss


@dataclass
class Birth:
    """A leaf module that received finite values and returned a NaN or Inf, seen as it returned."""

    layer: Layer
    place: Place
    kind: str
    dtype: str
    start: int
    end: int
    operands: list[Any]
    parameters_finite: bool
    inputs_finite: bool


@dataclass
class BadTensor:
    """A NaN or Inf found in a batch or in a root module's input."""

    path: str | None
    row: int | None
    index: int | None
    kind: str
    place: Place
    source: str  # batch, input, variable
    dtype: str
    root: str | None = None  # the module that was given it as an input


class Reached(NamedTuple):
    """A gradient that reached a leaf module's output."""

    layer: Layer
    number: int
    bad: bool
    dtype: torch.dtype
    largest: float = 0.0  # magnitude


class PerThread(threading.local):
    def __init__(self) -> None:
        self.stack: list[tuple[Layer, int, int]] = []  # layer, first graph node, number of the call
        self.entered = 0  # module calls so far
        self.graph = True  # gradients were enabled as the outermost module was called


@dataclass
class Run:
    recorder: Recorder
    names: Names = field(init=False)
    thread: PerThread = field(default_factory=PerThread)
    calls: list[Call] = field(default_factory=list)  # since the last backward
    older: list[Call] = field(default_factory=list)  # of the graph before
    stale: bool = False  # a backward has run: the next root call begins a new graph
    mode: str = "train"
    births: list[Birth] = field(default_factory=list)  # of the current graph
    bad_data: list[BadTensor] = field(default_factory=list)  # of the current batch
    loader_seen: bool = False  # batches come from a DataLoader: all their tensors are known
    nothing_evaluated: bool = False  # the last root call returned empty tensors: a mean over nothing is nobody's fault
    bad_outputs: list["weakref.ref[Tensor]"] = field(default_factory=list)  # of root modules, since the last backward
    outputs: list[tuple[int, Tensor, int, int]] = field(default_factory=list)  # probes/by_hand.py
    answered: int = 0  # calls of models whose outputs were kept
    last_output: tuple[Any, bool] = (None, False)  # weak reference to the leaf output measured last; was it bad
    flags: dict[int, bool] = field(default_factory=dict)  # graph node of a leaf module's output -> it is bad
    trail: list[Reached] = field(default_factory=list)  # gradients in the order of this backward
    loss_finite: bool = True  # of the last backward
    scale: float | None = None  # loss scale in force
    scaled_losses: dict[int, float] = field(default_factory=dict)  # id of a scaled loss -> its value before scaling
    unscaled: bool = False  # gradients were unscaled since the GradScaler's last update
    clipped: bool = False  # since the last step
    reads: Any = None  # of one number of a tensor (probes/guards.py): asleep in an optimizer's step without a closure
    checked_gradients: bool = True  # since the last backward
    foreign: str | None = None  # who wrote the weights since the last step: load_state_dict
    foreign_place: Place = field(default_factory=Place)
    compiles: bool = False  # torch.compile was asked for
    replicated: bool = False  # other ranks hold the same weights
    # after a step whose weights were not looked at: which optimizer can have made this parameter bad by it, and where
    unchecked: Callable[[Tensor], tuple[str, Place] | None] | None = None
    hooks: Any = None  # probes/forward.py
    overshoot: Any = None  # probes/overshoot.py, where --probe asked for it
    rules: Any = None  # treat/mode.py, where active mode has changed an operation
    scalers: Any = None  # treat/scalers.py, likewise
    checks: Any = None  # treat/checks.py: what the script asks of a value that is not finite
    alone: Any = None  # treat/batchnorm.py: layers that are given one value per channel

    def __post_init__(self) -> None:
        self.names = Names(self._model_seen)

    def begin_graph(self) -> None:
        """First root call after a backward: what was kept of the last graph goes."""
        self.stale = False
        # a GAN's generator ran before the critic's backward, and is used by the next; autopsy/recall.py remembers lists
        self.older, self.calls = self.calls, []
        self.births.clear()
        self.bad_outputs.clear()
        self.outputs.clear()
        self.flags.clear()

    def locate(self, number: int) -> Call | None:
        """The innermost module call that made the graph node with this sequence number."""
        best: Call | None = None
        for call in (*self.older, *self.calls):
            if call.start <= number < call.end and (best is None or call.end - call.start <= best.end - best.start):
                if best is None or call.start >= best.start:
                    best = call
        return best

    def call_number(self, layer: Layer) -> int:
        if layer.calls_step != self.recorder.step:
            layer.calls_step, layer.calls = self.recorder.step, 0
        layer.calls += 1
        return layer.calls - 1

    def subject(self, layer: Layer, tensor: str = "", role: str = "module") -> int:
        key = f"{role}:{tensor}"
        number = layer.subjects.get(key)
        if number is None:
            number = layer.subjects[key] = self.recorder.subject(
                layer.name, role, layer.kind, tensor or None, key=f"{id(layer)}"
            )
        return number

    def _model_seen(self, model: Model) -> None:
        top = model.ref()
        if top is None or not model.parameters:
            return
        rename = self.names.several
        self.recorder.note(
            "model",
            name=model.variable,
            kind=class_name(top),
            manual=vars(top).get("_automatic_optimization") is False,  # Lightning's: the user calls step himself
            tree=[[path, class_name(module), module.training] for path, module in self.names.modules(top)],
            parameters=[[path, list(shape), *rest] for path, shape, *rest in self.names.parameters(model)],
        )
        if rename:
            for layer in self.names.layers():
                for key, number in layer.subjects.items():
                    role, _, tensor = key.partition(":")
                    self.recorder.note(
                        "subject", id=number, name=layer.name, role=role, module=layer.kind, tensor=tensor or None
                    )
            for known in self.names.models:
                for identity, held in known.parameters.items():
                    self.recorder.rename(f"p{identity}", known.prefixed(held.path))

    def incident(self, alarm: str, **fields: Any) -> Incident:
        """An incident at the present moment."""
        now = self.recorder
        return Incident(alarm, now.step, now.batch, now.micro, now.epoch, scale=self.scale, **fields)


def parameters_of(module: nn.Module) -> list[tuple[str, Tensor]]:
    return [(name, value) for name, value in module._parameters.items() if value is not None]
