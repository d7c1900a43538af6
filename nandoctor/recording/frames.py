"""Which line of the user's program is running: the innermost frame outside torch and outside installed packages."""

import functools
import linecache
import os
import sys
import sysconfig
from collections.abc import Mapping
from inspect import CO_OPTIMIZED
from types import CodeType, FrameType
from typing import Any

from .attach import HERE, OUR_CALL
from .incident import Place

_LIBRARIES = tuple(
    {
        os.path.join(sysconfig.get_path(name), "")
        for name in ("stdlib", "platstdlib", "purelib", "platlib")
        if sysconfig.get_path(name)
    }
)
_OURS = os.path.join(os.path.dirname(HERE), "")
OWN_REFERENCES = 3  # to a frame's snapshot: the frame's, our variable, the argument of getrefcount
_user: dict[CodeType, bool] = {}  # code object -> is it the user's
_HIDDEN_FOLDERS = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")


def is_user_code(code: CodeType) -> bool:
    """Whether this code is the user's: not Python's, not a package's, not ours, not made at run time."""
    known = _user.get(code)
    if known is None:
        known = _user[code] = code.co_name != OUR_CALL and is_user_file(code.co_filename)
    return known


def is_user_file(name: str) -> bool:
    return not (
        name.startswith("<frozen")
        or name.startswith(_OURS)
        or any(folder in name for folder in _HIDDEN_FOLDERS)
        or name.startswith(_LIBRARIES)
        or (name.startswith("<") and not name.startswith(("<stdin", "<string", "<ipython")))
    )


def user_frame(frame: FrameType | None = None) -> FrameType | None:
    """The innermost frame of the user's program, seen from `frame` (default: the caller)."""
    frame = frame or sys._getframe(1)
    while frame is not None and not is_user_code(frame.f_code):
        frame = frame.f_back
    return frame


def user_frames() -> list[FrameType]:
    """All frames of the user's program on the stack, innermost first."""
    found = []
    frame = user_frame(sys._getframe(1))
    while frame is not None:
        found.append(frame)
        frame = user_frame(frame.f_back) if frame.f_back is not None else None
    return found


def user_place() -> Place:
    """Where the user's program is now. A package's line below it is named too, unless the package is torch."""
    frame: FrameType | None = sys._getframe(1)
    library = None
    while frame is not None and not is_user_code(frame.f_code):
        name = frame.f_code.co_filename
        if library is None and any(f in name for f in _HIDDEN_FOLDERS) and f"{os.sep}torch{os.sep}" not in name:
            if not name.startswith(_OURS):
                library = frame
        frame = frame.f_back
    place = Place()
    if frame is not None:
        place.file = relative(frame.f_code.co_filename)
        place.line = frame.f_lineno
        place.text = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip() or None
    if library is not None:
        place.library_file = relative(library.f_code.co_filename)
        place.library_line = library.f_lineno
    return place


def variables_of(frame: FrameType) -> Mapping[str, Any]:
    """What a frame holds by name, without leaving it there a second time.

    Before Python 3.13 reading f_locals leaves a snapshot in a function's frame: the tensors of that moment would live
    as long as the function, which for a training loop is for ever. It is emptied, unless the program holds it, too.
    """
    held = frame.f_locals
    if type(held) is not dict or not frame.f_code.co_flags & CO_OPTIMIZED:  # a namespace itself, or a view
        return held
    copy = dict(held)
    if sys.getrefcount(held) <= OWN_REFERENCES:
        held.clear()
    return copy


@functools.lru_cache(maxsize=1024)
def relative(file: str) -> str:
    """The path as contract/provenance.md wants it: relative to the working directory where it lies below it."""
    try:
        inside = os.path.relpath(file)
    except (ValueError, OSError):
        return file
    return file if inside.startswith("..") else inside
