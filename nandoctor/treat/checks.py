"""Checks of the script that would end it at a NaN are answered as if there were none: the update is left out anyway.

`assert torch.isfinite(loss)`, `if math.isnan(loss.item()): break`, a function that raises: only where an incident was
filed, only at a statement that ends the training, and only so many steps in a row. A check that goes
on to the next batch (`continue`) knows what it does, and is told the truth.
"""

import ast
import functools
import linecache
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from ..causes import treatments
from ..recording.attach import FRAMES
from ..recording.frames import is_user_code, user_frame
from ..recording.run import Run
from ..recording.stats import detach, item
from .finite import bad_among
from .hooks import shielded

IN_A_ROW = 20  # steps: a run that is not finite for longer is not kept alive, it is kept from ending
VERDICTS = {"isnan": False, "isinf": False, "isfinite": True}  # of finite numbers
NUMBERS = ("item", "__float__", "tolist")
ENDING = frozenset(("exit", "_exit", "quit", "abort", "fail", "interrupt_main"))  # names of functions that end it
DEEP = 4  # calls from a check up to the statement that asked for it
FINITE = 0.0  # what a number is answered with before any loss was finite


@dataclass
class Checks:
    run: Run
    doctor: Any
    finite: float = FINITE  # the last loss that was
    answered: int = 0  # steps in a row
    last: int = -1  # step that was answered
    swapped: bool = False

    def due(self) -> bool:
        """Whether an incident was filed, and patience is left."""
        if not self.doctor.window.incidents:
            return False
        step = self.run.recorder.step
        return step == self.last or not (self.answered >= IN_A_ROW and step - self.last <= 1)

    def answer(self, what: str) -> None:
        step = self.run.recorder.step
        if step == self.last:
            return
        self.answered = self.answered + 1 if step - self.last <= 1 else 1
        self.last = step
        self.doctor.ledger.write(
            "once", treatments.NONFINITE_GRADIENTS, "", f"a check of the script ({what}) was told that all is finite",
            "it would have ended the training; this update is left out or repaired", "remove --active",
        )  # fmt: skip

    def known_bad(self) -> bool:
        """A script may look at the gradients before the recording does, which waits for the step."""
        if not self.doctor.window.incidents:
            tops = [top for model in self.run.names.models if (top := model.ref()) is not None]
            given = [p for top in tops for p in top.parameters() if p.grad is not None]
            if bad_among([p.grad for p in given if p.grad is not None]):
                shielded(self.run, self.doctor.alarms.gradients)([(self.run.names.parameter(p)[0], p) for p in given])
        self.swap()
        return self.due()

    # --- what the script asks ----------------------------------------------------------------------------------
    def function(self, name: str, frame: FrameType) -> Any:
        """torch.isnan and its like, as the script looks them up: a stand-in where it would end by the answer."""
        if not is_user_code(frame.f_code) or not ends(frame):
            return None
        plain, verdict = vars(torch)[name], VERDICTS[name]

        def stand_in(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            seen: Tensor = plain(x, *args, **kwargs)
            if bool((seen != verdict).any()) and self.known_bad():
                self.answer(name)
                return torch.full_like(seen, verdict)
            return seen

        return stand_in

    def method(self, name: str, tensor: Tensor, frame: FrameType) -> Any:
        if not is_user_code(frame.f_code) or not tensor.is_floating_point():
            return None
        if name in NUMBERS:
            if not self.due() or tensor.numel() != 1 or math.isfinite(item(detach(tensor))):
                return None
            self.swap()
            if not ends(frame):
                return None
            self.answer(name)
            return lambda *_: self.finite
        stand_in = self.function(name, frame)
        return functools.partial(stand_in, tensor) if stand_in is not None else None

    def number(self, name: str, plain: Callable[..., Any]) -> Callable[..., Any]:
        """math.isnan, numpy.isnan."""
        verdict = VERDICTS[name]

        @functools.wraps(plain)
        def checked(x: Any, *args: Any, **kwargs: Any) -> Any:
            seen = plain(x, *args, **kwargs)
            if isinstance(seen, (bool, *_bools())) and bool(seen) != verdict and self.due():
                frame = sys._getframe(1)
                if is_user_code(frame.f_code) and ends(frame):
                    self.answer(name)
                    return verdict
            return seen

        return checked

    def swap(self) -> None:
        """Once, at the first incident: until then nothing of Python's or NumPy's is touched."""
        if self.swapped:
            return
        self.swapped = True
        main = vars(sys.modules["__main__"])
        for module in (math, sys.modules.get("numpy")):
            for name in VERDICTS if module is not None else ():
                plain = getattr(module, name)
                checked = self.number(name, plain)
                setattr(module, name, checked)
                for key in [key for key, value in main.items() if value is plain]:
                    main[key] = checked  # from math import isnan

    def install(self) -> None:
        for name in (*VERDICTS, *NUMBERS):
            standing = torch.Tensor.__dict__.get(name)
            if standing is not None:
                offer = shielded(self.run, functools.partial(self.method, name))
                setattr(torch.Tensor, name, Asked(standing, self.doctor.window, name in NUMBERS, offer))
        self.run.checks = shielded(self.run, self.function)


def _bools() -> tuple[type, ...]:
    numpy: Any = sys.modules.get("numpy")
    return (numpy.bool_,) if numpy is not None else ()


class Asked:
    """In the place of a method that probes/guards.py watches: it looks first, then we may answer."""

    def __init__(self, standing: Any, window: Any, number: bool, offer: Callable[[Tensor, FrameType], Any]) -> None:
        functools.update_wrapper(self, standing)
        self.number = number
        self.original, self.standing, self.window, self.offer = standing, standing, window, offer

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        found = self.standing.__get__(instance, owner)
        if instance is None or not self.window.incidents and self.number:  # optimizers ask for these
            return found
        return self.offer(instance, sys._getframe(1)) or found

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.standing(*args, **kwargs)


FRAMES.add(Asked.__get__.__code__)


# --- which statement asks --------------------------------------------------------------------------------------
@dataclass
class Source:
    """The statements of one file, with those around each."""

    around: dict[ast.stmt, list[ast.AST]] = field(default_factory=dict)


def ends(frame: FrameType | None) -> bool:
    """Whether the statement that runs in this frame, or the one that called it, ends the training by its answer."""
    for _ in range(DEEP):
        frame = user_frame(frame) if frame is not None else None
        if frame is None:
            return False
        verdict = ends_at(frame.f_code.co_filename, frame.f_lineno)
        if verdict is not None:
            return verdict
        frame = frame.f_back  # def diverged(loss): return torch.isnan(loss)
    return False


@functools.lru_cache(1024)
def ends_at(file: str, line: int) -> bool | None:
    """None: it hands the answer on to its caller."""
    source = source_of(file)
    statement = at_line(source, line)
    if statement is None:
        return False
    if isinstance(statement, ast.Return):
        return None
    return any(ending(one, source.around[one]) for one in (statement, *uses(statement, source)))


@functools.lru_cache(64)
def source_of(file: str) -> Source:
    source = Source()

    def walk(node: ast.AST, around: list[ast.AST]) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.stmt):
                source.around[child] = around
            walk(child, [*around, child] if isinstance(child, (ast.stmt, ast.ExceptHandler)) else around)

    try:
        walk(ast.parse("".join(linecache.getlines(file))), [])
    except (SyntaxError, ValueError, RecursionError):
        return Source()
    return source


def at_line(source: Source, line: int) -> ast.stmt | None:
    """The statement that is running there; of one that holds others, only its test counts."""
    tests: list[ast.stmt] = []
    plain: list[ast.stmt] = []
    for one in source.around:
        whole = one.test if isinstance(one, (ast.If, ast.While)) else one
        if whole.lineno <= line <= (whole.end_lineno or whole.lineno):
            if isinstance(one, (ast.If, ast.While, ast.Assert)):
                tests.append(one)
            elif not hasattr(one, "body"):
                plain.append(one)
    return max(tests or plain, key=lambda one: (one.lineno, one.col_offset), default=None)


def uses(statement: ast.stmt, source: Source) -> list[ast.stmt]:
    """bad = torch.isnan(loss): the tests of `bad` in the same function."""
    if not isinstance(statement, ast.Assign):
        return []
    names = {target.id for target in statement.targets if isinstance(target, ast.Name)}
    home = home_of(source.around[statement])
    return [
        one for one in source.around
        if isinstance(one, (ast.If, ast.Assert)) and home_of(source.around[one]) is home
        and any(isinstance(node, ast.Name) and node.id in names for node in ast.walk(one.test))
    ]  # fmt: skip


def home_of(around: list[ast.AST]) -> ast.AST | None:
    return next((one for one in reversed(around) if isinstance(one, (ast.FunctionDef, ast.AsyncFunctionDef))), None)


def ending(statement: ast.stmt, around: list[ast.AST]) -> bool:
    if isinstance(statement, (ast.Assert, ast.While)):
        return True
    if not isinstance(statement, ast.If):
        return False
    home = home_of(around)
    inside = around[around.index(home) + 1 :] if home is not None else around
    looped = any(isinstance(one, (ast.For, ast.While)) for one in inside)
    branches = (*statement.body, *statement.orelse)
    if any(isinstance(one, ast.Continue) for one in branches):
        return False  # it goes on by itself
    return any(_ends(one, [*around, statement], looped) for one in branches)


def _ends(one: ast.stmt, around: list[ast.AST], looped: bool) -> bool:
    if isinstance(one, (ast.Raise, ast.Break)) or isinstance(one, ast.Return) and looped:
        return True
    called = one.value.func if isinstance(one, ast.Expr) and isinstance(one.value, ast.Call) else None
    name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
    return name in ENDING or isinstance(one, ast.If) and ending(one, around)
