"""The line map: which operation and which line of the user's program made each node of the graph.

A TorchFunctionMode notes every torch call of the first graphs: the nodes it made, its public name, the user's line.
Off afterwards (left on it costs +60 % on a small transformer), on again when a graph of a new size comes.
"""

import sys
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from types import FrameType, FunctionType
from typing import Any

import torch
from torch import _C
from torch.overrides import TorchFunctionMode

from ..attach import OUR_CALL
from ..frames import user_place
from ..guard import Guard, in_transform
from ..incident import Place
from ..run import Call, Run, sequence_number
from .modes import in_main_thread, push, remove
from .operations import public_function, public_name, stem
from .tape import Entry, Tape
from .values import is_leaf, order

FIRST_GRAPHS = 2  # mapped in any case: a GAN's second graph, a warm-up batch
MAX_GRAPHS = 12  # mapped in all: a loop of varying length gives a new size at each step
LOSS = "<loss>"  # in the place of a layer's name: made outside of the models; the root module's own name is ""
# too large to be one operation: its nodes are named one by one, and by this name where there are no nodes
OPERATION_INSIDE = {"multi_head_attention_forward": "softmax"}


@dataclass(frozen=True)
class Line:
    op: str
    place: Place
    entry: Entry | None = field(default=None, compare=False)  # of the tape


@dataclass
class Noted:
    start: int
    end: int
    line: Line


@dataclass
class LineMap:
    run: Run
    mode: "Mode | None" = None
    graphs: int = 0
    allowed: bool = True
    noted: list[Noted] = field(default_factory=list)  # of the graph in progress
    earlier: list[Noted] = field(default_factory=list)  # of the one before: a part of it may be used again (a GAN)
    # (layer or LOSS, node class) -> for each call that was mapped, its nodes of that class in order
    known: dict[tuple[str, str], list[list[Line]]] = field(default_factory=dict)
    texts: set[tuple[str | None, int | None]] = field(default_factory=set)
    tape: Tape = field(init=False)
    paused: "Mode | None" = None

    def __post_init__(self) -> None:
        self.tape = Tape(self.run)

    def wanted(self) -> bool:
        return self.graphs < FIRST_GRAPHS

    def give_up(self) -> None:
        """No mode from here on."""
        self.stop()
        self.allowed = False

    def pause(self) -> None:
        """A model evaluates: torch's fast paths for inference look whether a mode is there."""
        if self.mode is not None and in_main_thread():
            remove(self.mode)
            self.paused, self.mode = self.mode, None

    def go_on(self) -> None:
        if self.paused is not None and self.mode is None and self.allowed and in_main_thread():
            self.mode = self.paused
            push(self.mode)
        self.paused = None

    def start(self) -> None:
        if not self.allowed or self.mode is not None or not in_main_thread():
            return
        if not _C._functorch.maybe_current_level():
            self.tape.begins_anew()
            self.mode = Mode(self.noted, self.tape, self.run.recorder.guard)
            push(self.mode)

    def ahead(self) -> None:
        """Before the first graph, and between the first ones: what is computed before the model is called counts."""
        if self.wanted():
            self.start()

    def model_called(self) -> None:
        """The tape of a long preparation is full: it begins anew with the model."""
        if self.tape.full:
            self.stop()
        if self.wanted():
            self.start()

    def stop(self) -> None:
        self.paused = None
        if self.mode is not None and in_main_thread():
            remove(self.mode)
            self.mode = None

    def learn(self, nodes: list[Any]) -> None:
        """A graph is whole: tie what was noted to its nodes."""
        self.tape.ends()
        by_call = grouped(self.run, nodes)
        fresh: dict[tuple[str, str], list[list[Line]]] = {}
        position = sorted((*self.earlier, *self.noted), key=lambda noted: noted.start)
        starts = [noted.start for noted in position]
        for (layer, kind, _), members in by_call.items():
            lines = [line for node in members if (line := _noted_for(order(node), starts, position)) is not None]
            if len(lines) == len(members):
                fresh.setdefault((layer, kind), []).append(lines)
        for key, calls in fresh.items():
            self.known.setdefault(key, []).extend(calls)
        if fresh:
            self.graphs += 1
        self.earlier = list(self.noted)
        self.noted.clear()
        for calls in fresh.values():
            for lines in calls:
                for line in lines:
                    self._keep_text(line.place)

    def _keep_text(self, place: Place) -> None:
        key = (place.file, place.line)
        if place.text and key not in self.texts:
            self.texts.add(key)
            self.run.recorder.note("line", file=place.file, line=place.line, text=place.text)

    def lookup(self, node: Any, nodes: list[Any]) -> Line | None:
        """Operation and line of one node of a graph, None where the map cannot tell."""
        for key, members in grouped(self.run, nodes).items():
            if node in members:
                layer, kind, number = key
                return self._find(self.known.get((layer, kind), []), number, members.index(node), len(members))
        return None

    def _find(self, calls: list[list[Line]], number: int, place: int, count: int) -> Line | None:
        fitting = [lines for lines in calls if len(lines) == count]
        if number < len(calls) and len(calls[number]) == count:
            return calls[number][place]
        candidates = [lines[place] for lines in fitting]
        if not candidates:  # another number of such nodes: only if all of them stand on one line, and that is not in
            # a package: Accelerate's own division of the loss says nothing of a new one in the user's code
            candidates = [line for lines in calls for line in lines]
            if any(line.place.library_file for line in candidates):
                return None
        answers = {(line.op, line.place.file, line.place.line): line for line in candidates}
        return next(iter(answers.values())) if len(answers) == 1 else None


def grouped(run: Run, nodes: list[Any]) -> dict[tuple[str, str, int], list[Any]]:
    """(layer or LOSS, node class, which call of that layer) -> its nodes in order."""
    result: dict[tuple[str, str, int], list[Any]] = {}
    locate = locator([*run.older, *run.calls])
    for node in nodes:
        if is_leaf(node):
            continue
        call = locate(order(node))
        kind = "".join(stem(node))
        key = (call.layer.name, kind, call.number) if call is not None else (LOSS, kind, 0)
        result.setdefault(key, []).append(node)
    return result


def locator(calls: list[Call]) -> Callable[[int], Call | None]:
    """Run.locate for many nodes: innermost call by one sweep over the ranges."""
    edges = [(call.start, call.end, call) for call in calls if call.end > call.start]
    edges.sort(key=lambda edge: (edge[0], -edge[1]))
    owner: dict[int, Call] = {}
    for start, end, call in edges:  # inner ranges come later and overwrite
        for number in range(start, end):
            owner[number] = call
    return owner.get


def _noted_for(number: int, starts: list[int], noted: list[Noted]) -> Line | None:
    place = bisect_right(starts, number) - 1
    return noted[place].line if place >= 0 and number < noted[place].end else None


class Mode(TorchFunctionMode):
    """Notes torch calls that made graph nodes. Calls them unchanged, as if from the user's own line."""

    def __init__(self, noted: list[Noted], tape: Tape, guard: Guard) -> None:
        super().__init__()
        self.noted, self.guard = noted, guard
        self.after = guard("linemap", partial(note, noted, tape))

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not self.guard.on:  # in a worker that draws batches
            return func(*args, **(kwargs or {}))
        start = sequence_number()
        if sys.gettrace() is None:
            result = as_if_from(calling_frame())(func, args, kwargs or {})
        else:  # a debugger must not see a frame of ours in the user's file
            result = func(*args, **(kwargs or {}))
        if in_transform() is None:
            self.after(func, args, kwargs or {}, result, start, sequence_number())
        elif sequence_number() > start:  # under vmap: tensors are wrappers, but the line is known
            name = getattr(func, "__name__", "")
            self.noted.append(Noted(start, sequence_number(), Line(public_function(name), user_place())))
        return result


def note(noted: list[Noted], tape: Tape, func: Any, args: Any, kwargs: Any, result: Any, start: int, end: int) -> None:
    """One call has returned."""
    name = getattr(func, "__name__", "")
    entry = tape.note(func, name, args, kwargs, result)
    if end > start:
        op = "" if name in OPERATION_INSIDE else public_function(name)
        noted.append(Noted(start, end, Line(op, user_place(), entry)))


_DISPATCH = torch.overrides.handle_torch_function.__code__
_calls: dict[tuple[str, int], Any] = {}


def _call(func: Any, args: Any, kwargs: Any) -> Any: return func(*args, **kwargs)  # noqa: E704  (one line, see below)


def calling_frame() -> FrameType:
    """The frame that called the torch function, seen from a mode's __torch_function__."""
    caller = sys._getframe(2)
    if caller.f_code is _DISPATCH and caller.f_back is not None and caller.f_back.f_back is not None:
        return caller.f_back.f_back  # handle_torch_function, called by the Python function itself
    return caller


def as_if_from(frame: FrameType) -> Any:
    """_call with the file, line and module of the frame: a warning of torch names the line where Python stands, and it
    must be the same with and without us."""
    key = (frame.f_code.co_filename, frame.f_lineno)
    code = _calls.get(key)
    if code is None:
        code = _calls[key] = _call.__code__.replace(co_filename=key[0], co_firstlineno=key[1], co_name=OUR_CALL)
    return FunctionType(code, frame.f_globals)


def operation(node: Any, line: Line | None) -> str:
    """The public name of the operation: as the user called it where the map knows, else by the node's class."""
    if line is not None and line.op:
        return line.op
    kind = stem(node)[0]
    if kind == "Convolution":
        return f"conv_transpose{rank(node)}d" if getattr(node, "_saved_transposed", False) else f"conv{rank(node)}d"
    return public_name(kind)


def rank(node: Any) -> int:
    """Spatial dimensions of a convolution's output."""
    try:
        return len(node._input_metadata[0].shape) - 2
    except (AttributeError, IndexError, RuntimeError):
        return 2
