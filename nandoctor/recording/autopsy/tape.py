"""The tape: what each torch call of a mapped graph was given, and which variables held it when backward was called.

Autograd keeps no node of what is computed without a gradient: targets under no_grad, features, weights of a loss,
running statistics. The tape knows which calls led to such a value; replay.py repeats them after an alarm. It holds no
tensor, only weak references, names and plain constants.
"""

import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import CodeType
from typing import Any

import torch
from torch import Tensor, nn

from ..frames import user_frame, user_frames, variables_of
from ..names import Layer
from ..nested import tensors
from ..run import Run

MAX_ENTRIES = 20_000  # of one graph: a second or so of noting, and some megabytes
MAX_FRAMES, MAX_VALUES, MAX_FIELDS = 6, 2_000, 100  # of frames, of their variables, of an object that one holds
PLAIN = (int, float, bool, complex, str, type(None), torch.dtype, torch.device, torch.layout, torch.memory_format,
         type(Ellipsis))  # fmt: skip

Held = tuple[CodeType, str]  # a variable of a function, and the path inside it


@dataclass(eq=False)
class Leaf:
    """A tensor that no call of the tape made."""

    ref: "weakref.ref[Tensor]"
    lasting: bool  # a parameter, or a buffer: the same object at every step
    held: Held | None = None


@dataclass(eq=False)
class Given:
    """In the place of a tensor among the arguments of a call."""

    source: "Entry | Leaf"
    place: int = 0  # among the tensors that the entry gave back


class Opaque:
    """In the place of something that cannot be kept."""


@dataclass(eq=False)
class Entry:
    """One call."""

    number: int
    func: Any
    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    file: str | None
    line: int
    layer: Layer | None  # innermost module, where the model is running
    autocast: tuple[str, torch.dtype, bool] | None
    elements: int  # that it gave back
    graph: bool  # gradients flow through it
    parents: list[Given] = field(default_factory=list)
    held: dict[int, Held] = field(default_factory=dict)
    whole: bool = True  # every argument was kept


class Tape:
    def __init__(self, run: Run) -> None:
        self.run = run
        self.entries = 0
        self.makers: dict[int, tuple[weakref.ref[Tensor], Entry | Leaf, int]] = {}  # by id of the tensor

    def begins_anew(self) -> None:
        self.entries = 0
        self.makers.clear()

    @property
    def full(self) -> bool:
        return self.entries >= MAX_ENTRIES

    def note(self, func: Any, name: str, args: Any, kwargs: Any, result: Any) -> Entry | None:
        """One call has returned."""
        if self.full:
            return None
        made = [result] if isinstance(result, Tensor) else [r for r in result if isinstance(r, Tensor)] if isinstance(
            result, (tuple, list)) else []  # fmt: skip
        written = name == "__setitem__"
        if written and args and isinstance(args[0], Tensor):
            made = [args[0]]
        if not made:
            return None
        frame, stack = user_frame(), self.run.thread.stack
        inside = stack and stack[0][0].model.parameters
        entry = Entry(
            self.entries, func, name, (), {}, frame.f_code.co_filename if frame else None,
            frame.f_lineno if frame else 0, stack[-1][0] if inside else None, _autocast(made[0]),
            sum(tensor.numel() for tensor in made), any(tensor.requires_grad for tensor in made),
        )  # fmt: skip
        entry.args = tuple(self._kept(value, entry) for value in args)
        entry.kwargs = {key: self._kept(value, entry) for key, value in kwargs.items()}
        self.entries += 1
        for place, tensor in enumerate(made):
            self.makers[id(tensor)] = (weakref.ref(tensor), entry, place)
        return entry

    def _kept(self, value: Any, entry: Entry) -> Any:
        if isinstance(value, Tensor):
            given = self._source(value)
            entry.parents.append(given)
            return given
        if type(value) in PLAIN:
            return value
        if type(value) in (tuple, list, torch.Size):
            kept = [self._kept(item, entry) for item in value]
            return kept if type(value) is list else tuple(kept)
        if type(value) is slice:
            return slice(*(self._kept(part, entry) for part in (value.start, value.stop, value.step)))
        entry.whole = False
        return Opaque

    def _source(self, tensor: Tensor) -> Given:
        known = self.makers.get(id(tensor))
        if known is not None and known[0]() is tensor:
            return Given(known[1], known[2])
        leaf = Leaf(weakref.ref(tensor), isinstance(tensor, nn.Parameter))
        self.makers[id(tensor)] = (leaf.ref, leaf, 0)
        return Given(leaf)

    def ends(self) -> None:
        """backward was called: which variables hold what now? So it will be at the next steps, too."""
        lasting = {id(value) for value in self._buffers()}
        for key, tensor in variables():
            known = self.makers.get(id(tensor))
            if known is None or known[0]() is not tensor:
                continue
            if isinstance(known[1], Entry):
                known[1].held.setdefault(known[2], key)
            elif known[1].held is None:
                known[1].held = key
        for reference, source, _ in self.makers.values():
            if isinstance(source, Leaf) and id(reference()) in lasting:
                source.lasting = True

    def _buffers(self) -> Iterator[Tensor]:
        for model in self.run.names.models:
            top = model.ref()
            if top is not None:
                for _, module in self.run.names.modules(top):
                    yield from (value for value in module._buffers.values() if value is not None)


def _autocast(tensor: Tensor) -> tuple[str, torch.dtype, bool] | None:
    device = tensor.device.type
    if not torch.amp.is_autocast_available(device):  # meta, for one
        return None
    return device, torch.get_autocast_dtype(device), torch.is_autocast_enabled(device)


def variables() -> Iterator[tuple[Held, Tensor]]:
    """The tensors in the variables of the user's running functions, innermost first, and one step inside objects."""
    for frame in user_frames()[:MAX_FRAMES]:
        for name, value in list(variables_of(frame).items())[:MAX_VALUES]:
            for path, tensor in _inside(value, name):
                yield (frame.f_code, path), tensor


def _inside(value: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, (Tensor, dict, tuple, list)):
        yield from tensors(value, name)
    elif type(value).__module__.partition(".")[0] not in ("torch", "builtins") and not isinstance(value, type):
        try:
            inner = vars(value)
        except TypeError:
            return
        if isinstance(inner, dict):
            for key, held in list(inner.items())[:MAX_FIELDS]:
                if isinstance(held, Tensor):
                    yield f"{name}.{key}", held


def held_now() -> dict[Held, Tensor]:
    found: dict[Held, Tensor] = {}
    for key, tensor in variables():
        found.setdefault(key, tensor)
    return found
