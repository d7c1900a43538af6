"""Copies of weights, buffers and optimizer states from moments when all was well: budgeted in memory and time."""

import time
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..recording.stats import detach
from .finite import bad_among

SHARE = 8  # a snapshot may take this part of the memory that is free: four of them leave half of it
KEPT = 4  # the first one, and three of growing age
EVERY = 8  # steps: the nearest that a rollback reaches back (D.3: 8, 64, 256)
SPACING = 6  # an older one is kept this many times farther back than the next
TIME = 0.02  # of the run may go into copying


@dataclass
class Snapshot:
    step: int
    tensors: list[tuple["weakref.ref[Tensor]", Tensor]]  # parameters and buffers
    states: list[tuple["weakref.ref[Optimizer]", list[tuple["weakref.ref[Tensor]", Any]]]]


@dataclass
class Snapshots:
    kept: list[Snapshot] = field(default_factory=list)  # oldest first
    spent: float = 0.0
    last: int = -1
    size: int | None = None
    refused: bool = False
    born: float = field(default_factory=time.monotonic)

    def due(self, step: int) -> bool:
        if self.refused or step <= self.last:
            return False
        if not self.kept:
            return True
        return step - self.last >= EVERY and self.spent <= TIME * (time.monotonic() - self.born)

    def take(self, step: int, optimizers: list[Optimizer], buffers: list[Tensor], best: int = -1) -> bool:
        """A copy of what is there now; False where it is not finite or there is no room. best: a step to be kept."""
        begun = time.monotonic()
        parameters = parameters_of(optimizers)
        wanted = [*parameters, *buffers]
        if self.size is None:
            self.size = sum(t.numel() * t.element_size() for t in wanted) * 3  # Adam holds two more of each
            if self.size > free_memory(wanted) / SHARE:
                self.refused = True
        if self.refused or bad_among([t for t in wanted if t.is_floating_point()]):
            return False
        tensors = [(weakref.ref(t), detach(t).clone()) for t in wanted]
        states = [(weakref.ref(optimizer), state_of(optimizer)) for optimizer in optimizers]
        self.kept.append(Snapshot(step, tensors, states))
        self.last = step
        self._thin(best)
        self.spent += time.monotonic() - begun
        return True

    def met(self, optimizer: Optimizer) -> None:
        """An optimizer before its first step: what it moves is still as it was when the others were copied."""
        for one in self.kept:
            held = {id(ref()) for ref, _ in one.tensors}
            new = [parameter for parameter in parameters_of([optimizer]) if id(parameter) not in held]
            one.tensors += [(weakref.ref(parameter), detach(parameter).clone()) for parameter in new]
            one.states.append((weakref.ref(optimizer), state_of(optimizer)))

    def before(self, step: int) -> Snapshot | None:
        """The newest from before this step, else the oldest."""
        older = [snapshot for snapshot in self.kept if snapshot.step <= step]
        return older[-1] if older else (self.kept[0] if self.kept else None)

    def start(self) -> Snapshot | None:
        return self.kept[0] if self.kept else None

    def forget_after(self, snapshot: Snapshot) -> None:
        self.kept = [one for one in self.kept if one.step <= snapshot.step]
        self.last = snapshot.step

    def good(self, parameter: Tensor) -> Tensor | None:
        """The newest good values of one parameter."""
        for snapshot in reversed(self.kept):
            for ref, values in snapshot.tensors:
                if ref() is parameter:
                    return values
        return None

    def _thin(self, best: int = -1) -> None:
        """The first, the newest, the last before the best step, and those whose distances grow best."""
        kept = self.before(best)
        while len(self.kept) > KEPT:
            newest = self.kept[-1].step
            ages = [newest - one.step for one in self.kept]
            # of two neighbours that lie close together, the older one grows into its place
            ratios = [(ages[n] + 1) / (ages[n + 1] + 1) for n in range(1, len(ages) - 1)]
            place = min(range(len(ratios)), key=lambda n: ratios[n])
            out = place + 2 if ratios[place] < SPACING and place + 2 < len(self.kept) - 1 else place + 1
            if self.kept[out] is kept:
                out = out + 1 if out + 2 < len(self.kept) else out - 1
            del self.kept[out]


def restore(snapshot: Snapshot) -> None:
    """Weights, buffers and states as they were. What did not exist then is forgotten.

    Through .data: autograd must not refuse a graph that the program has begun and will still run backward.
    """
    with torch.no_grad():
        for ref, values in snapshot.tensors:
            target = ref()
            if target is not None and target.shape == values.shape:
                target.data.copy_(values)
    for optimizer_ref, entries in snapshot.states:
        optimizer = optimizer_ref()
        if optimizer is None:
            continue
        held = {id(parameter): state for ref, state in entries if (parameter := ref()) is not None}
        for parameter in [p for group in optimizer.param_groups for p in group["params"]]:
            optimizer.state.pop(parameter, None)
            if id(parameter) in held:
                optimizer.state[parameter] = copied(held[id(parameter)])


def parameters_of(optimizers: list[Optimizer]) -> list[Tensor]:
    seen: dict[int, Tensor] = {}
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                seen.setdefault(id(parameter), parameter)
    return list(seen.values())


def buffers_of(models: list[nn.Module]) -> list[Tensor]:
    """Running statistics and the like; integer counters too."""
    seen: dict[int, Tensor] = {}
    for model in models:
        for module in model.modules():
            for value in module._buffers.values():
                if isinstance(value, Tensor) and value.layout is torch.strided:
                    seen.setdefault(id(value), value)
    return list(seen.values())


def state_of(optimizer: Optimizer) -> list[tuple["weakref.ref[Tensor]", Any]]:
    return [
        (weakref.ref(parameter), copied(state))
        for parameter, state in optimizer.state.items()
        if isinstance(parameter, Tensor)
    ]


def copied(value: Any) -> Any:
    """A deep copy of state: tensors inside dictionaries, lists and tuples; anything else as it is."""
    if isinstance(value, Tensor):
        return detach(value).clone()
    if isinstance(value, Mapping):
        return {key: copied(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(copied(item) for item in value) if type(value) in (list, tuple) else value
    return value


def state_tensors(optimizer: Optimizer, parameters: list[Tensor]) -> list[Tensor]:
    """The floating point tensors of an optimizer's state."""
    found: list[Tensor] = []
    todo: list[Any] = [optimizer.state[p] for p in parameters if p in optimizer.state]
    while todo:
        value = todo.pop()
        if isinstance(value, Tensor):
            if value.is_floating_point():
                found.append(value)
        elif isinstance(value, Mapping):
            todo.extend(value.values())
        elif isinstance(value, (list, tuple)):
            todo.extend(value)
    return found


def free_memory(tensors: list[Tensor]) -> float:
    """Bytes that are free where these tensors live."""
    device = next((t.device for t in tensors), torch.device("cpu"))
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    try:
        with open("/proc/meminfo", "rb") as file:
            return float(next(int(line.split()[1]) * 1024 for line in file if line.startswith(b"MemAvailable")))
    except (OSError, StopIteration):
        return 4e9  # macOS, Windows: half a gigabyte for a snapshot
