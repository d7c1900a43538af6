"""Seeing a call of a torch function or method without changing what the user's program sees.

A method is watched by a descriptor: looking it up tells the probe, and hands out torch's own bound method, so that no
frame of ours stands between the user's line and torch. A function is replaced by a wrapper, whose frame
tracebacks.py takes out of an uncaught exception before Python prints it.
"""

import functools
import os
from collections.abc import Callable
from types import ModuleType
from typing import Any

OUR_CALL = "<nandoctor>"  # name of a frame of ours that stands in the user's file
HERE = os.path.dirname(os.path.abspath(__file__))


class Watched:
    """Descriptor in the place of a method: `seen(self)` runs at each lookup on an instance."""

    def __init__(self, original: Any, seen: Callable[[Any], None]) -> None:
        functools.update_wrapper(self, original)  # first: it copies the fields of another Watched, too
        self.original = original
        self.seen = seen

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is not None:
            self.seen(instance)
        return self.original.__get__(instance, owner)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:  # Class.__dict__["method"](self)
        return self.original(*args, **kwargs)


def watch_method(owner: type, name: str, seen: Callable[[Any], None]) -> None:
    """Call `seen(instance)` whenever owner().name is looked up. Nothing happens where torch has no such method."""
    for base in owner.__mro__:
        if name in base.__dict__:
            setattr(owner, name, Watched(base.__dict__[name], seen))
            return


def wrap_function(
    places: list[Any],
    name: str,
    before: Callable[..., Any] | None = None,
    after: Callable[..., None] | None = None,
) -> None:
    """Replace function `name` in each place; before(*args) and after(result, *args) must not raise."""
    original = getattr(places[0], name, None)
    if original is None:
        return

    @functools.wraps(original)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if before is not None:
            before(*args, **kwargs)
        result = original(*args, **kwargs)
        if after is not None:
            after(result, *args, **kwargs)
        return result

    for place in places:
        if getattr(place, name, None) is original:
            setattr(place, name, wrapper)


def watch_lookup(module: ModuleType, names: tuple[str, ...], seen: Callable[[], Any]) -> None:
    """Call `seen()` whenever module.name is looked up. What it returns, if anything, is handed out in its place.

    The module keeps its own functions: torch.jit and others compare and pickle them.
    """

    def watched(name: str, function: Any) -> property:
        def read(_: ModuleType) -> Any:
            return seen() or function

        def write(owner: ModuleType, value: Any) -> None:
            setattr(type(owner), name, property(lambda _: value, write))

        return property(read, write)

    fields = {name: watched(name, vars(module)[name]) for name in names if name in vars(module)}
    module.__class__ = type(type(module).__name__, (type(module),), fields)
