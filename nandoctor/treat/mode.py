"""Torch calls of the user's program pass through here while a treatment needs it: a named one is called differently."""

import sys
from collections.abc import Callable
from typing import Any

from torch.overrides import TorchFunctionMode

from ..recording.autopsy.modes import in_main_thread, push, remove
from ..recording.autopsy.operations import public_function
from ..recording.frames import user_frame
from ..recording.run import Run

Rule = Callable[[str, Any, tuple[Any, ...], dict[str, Any]], Any]  # op, function, args, kwargs -> result
SINGULAR = {"__truediv__": "div", "__rtruediv__": "rdiv", "__pow__": "pow", "__rpow__": "rpow", "true_divide": "div"}


class Rules(TorchFunctionMode):
    """Each rule answers for some operations, or for all (None)."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.run = run
        self.rules: list[tuple[frozenset[str] | None, Rule]] = []
        self.resting = False
        self.known: dict[str, str] = {}  # by the name of a torch function: what people call it

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        guard = self.run.recorder.guard
        if guard.on and not getattr(guard._inside, "busy", False):
            name = getattr(func, "__name__", "")
            op = self.known.get(name)
            if op is None:
                op = self.known[name] = SINGULAR.get(name) or public_function(name)
            for ops, rule in self.rules:
                if ops is None or op in ops:
                    return rule(op, func, args, kwargs)
        return func(*args, **kwargs)


def in_force(run: Run, ops: frozenset[str] | None, rule: Rule) -> Callable[[], None] | None:
    """Add a rule; returns what takes it off. None where no mode can stand: in another thread, beside torch.compile."""
    if not in_main_thread() or run.compiles:
        return None
    if run.rules is None:
        run.rules = Rules(run)
        push(run.rules)
    rules = run.rules
    entry = (ops, rule)
    rules.rules.append(entry)

    def stop() -> None:
        if entry in rules.rules:
            rules.rules.remove(entry)
        if not rules.rules and run.rules is rules and in_main_thread():
            remove(rules)
            run.rules = None

    return stop


def rest(run: Run) -> None:
    """An optimizer of torch's is about to step: hundreds of calls, and none of the program's."""
    rules = run.rules
    if rules is not None and not rules.resting and in_main_thread():
        remove(rules)
        rules.resting = True


def wake(run: Run) -> None:
    rules = run.rules
    if rules is not None and rules.resting and in_main_thread():
        rules.resting = False
        push(rules)


def user_line() -> tuple[str, int] | None:
    """File and line of the user's program that is running."""
    frame = user_frame(sys._getframe(1))
    return (frame.f_code.co_filename, frame.f_lineno) if frame is not None else None
