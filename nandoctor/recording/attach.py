"""Seeing a call of a torch function or method without changing what the user's program sees.

A method is watched by a descriptor: looking it up tells the probe, and hands out torch's own bound method, so that no
frame of ours stands between the user's line and torch. A function is replaced by a wrapper, whose frame
tracebacks.py takes out of an uncaught exception before Python prints it.
"""

import functools
import os
from collections.abc import Callable
from functools import partial
from types import CodeType, ModuleType
from typing import Any

UNDO: list[Callable[[], None]] = []  # takes back what was put into torch's classes and modules, newest last
OUR_CALL = "<nandoctor>"  # name of a frame of ours that stands in the user's file
HERE = os.path.dirname(os.path.abspath(__file__))


# of ours that a program runs without knowing: Dynamo must not compile these (probes/compiled.py)
FRAMES: set[CodeType] = set()
PASSING: set[CodeType] = set()  # which call torch's own in turn, and that it may


try:
    from .kernel import Lookup
except ImportError:

    class Lookup:  # type: ignore[no-redef]
        """The same without the compiled kernel."""

        def __init__(self, original: Any, seen: Callable[[Any], None]) -> None:
            self.original, self.seen, self.asleep = original, seen, False

        def __get__(self, instance: Any, owner: type | None = None) -> Any:
            if instance is not None and not self.asleep:
                self.seen(instance)
            return self.original.__get__(instance, owner)

    FRAMES.add(Lookup.__get__.__code__)


class Watched(Lookup):
    """Descriptor in the place of a method: `seen(self)` runs at each lookup on an instance, unless it is asleep."""

    def __init__(self, original: Any, seen: Callable[[Any], None]) -> None:
        functools.update_wrapper(self, original)  # first: it copies the fields of another Watched, too
        super().__init__(original, seen)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:  # Class.__dict__["method"](self)
        return self.original(*args, **kwargs)


def watch_method(owner: type, name: str, seen: Callable[[Any], None]) -> Watched | None:
    """Call `seen(instance)` whenever owner().name is looked up. Nothing happens where torch has no such method."""
    for base in owner.__mro__:
        if name in base.__dict__:
            watched = Watched(base.__dict__[name], seen)
            UNDO.append(partial(_restore_method, owner, name, watched, owner.__dict__.get(name)))
            setattr(owner, name, watched)
            return watched
    return None


def _restore_method(owner: type, name: str, watched: Watched, own: Any) -> None:
    """`own`: None where the method is inherited. What somebody else has put over ours stays."""
    if owner.__dict__.get(name) is not watched:
        return
    if own is None:
        delattr(owner, name)
    else:
        setattr(owner, name, own)


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

    PASSING.add(wrapper.__code__)  # type: ignore[attr-defined]
    for place in places:
        if getattr(place, name, None) is original:
            UNDO.append(partial(_restore_function, place, name, wrapper, original))
            setattr(place, name, wrapper)


def _restore_function(place: Any, name: str, wrapper: Any, original: Any) -> None:
    if getattr(place, name, None) is wrapper:
        setattr(place, name, original)


def watch_lookup(module: ModuleType, names: tuple[str, ...], seen: Callable[[], Any]) -> None:
    """Call `seen()` whenever module.name is looked up. What it returns, if anything, is handed out in its place.

    The module keeps its own functions: torch.jit and others compare and pickle them.
    """

    def watched(name: str, function: Any) -> property:
        def read(_: ModuleType) -> Any:
            return seen() or function

        def write(owner: ModuleType, value: Any) -> None:
            setattr(type(owner), name, property(lambda _: value, write))
            written[name] = value

        FRAMES.add(read.__code__)
        return property(read, write)

    written: dict[str, Any] = {}  # what the program has put in the place of these functions meanwhile
    plain = type(module)

    def restore() -> None:
        if type(module) is watching:
            module.__class__ = plain
        vars(module).update(written)

    fields = {name: watched(name, vars(module)[name]) for name in names if name in vars(module)}
    watching = type(plain.__name__, (plain,), fields)
    UNDO.append(restore)
    module.__class__ = watching
