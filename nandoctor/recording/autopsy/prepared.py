"""Which line made a bad batch of good data: the preprocessing in the program itself, by torch's calls or by numpy's.

Only where what it began with is seen to be finite: the tensors of a data set that are still there, the arrays in the
variables of the running functions. Nothing is run again.
"""

import ast
import sys
from types import FrameType
from typing import Any

from torch import Tensor

from ..frames import user_frames, variables_of
from ..incident import Place
from ..stats import is_bad
from . import sources, variables
from .elimination import above, can_leave, place_of
from .expressions import assignment
from .tape import Entry, Leaf, Tape

MAX_DEPTH = 5  # assignments followed backwards


def line(tape: Tape) -> Place | None:
    """Of the bad tensors that the running functions hold."""
    return _by_calls(tape) or _by_arrays()


def _by_calls(tape: Tape) -> Place | None:
    """What led to this variable at the step whose calls were noted; the only line of it that can make such a value."""
    keys = {(frame.f_code, path) for frame, path, _ in variables.bad_variables()}
    for _, source, _ in list(tape.makers.values()):
        if not isinstance(source, Entry) or not keys & set(source.held.values()):
            continue
        chain = list(above([source]))
        begun = {id(given.source): given.source for entry in chain for given in entry.parents}
        leaves = [leaf.ref() for leaf in begun.values() if isinstance(leaf, Leaf)]
        if not leaves or any(value is None or is_bad(value.detach()) for value in leaves):
            continue
        able = {(entry.file, entry.line): entry for entry in chain if not entry.graph and can_leave(entry)}
        if len(able) == 1:
            return place_of(able.popitem()[1])
    return None


def _by_arrays() -> Place | None:
    """x = torch.from_numpy(a), and a is an array that was made of finite ones."""
    if "numpy" not in sys.modules:
        return None
    for frame, path, _ in variables.bad_variables():
        found = _made(frame, path, 0)
        if found is not None:
            return found
    for frame in user_frames()[:2]:  # the tensor was given to the model without a name
        for name, value in list(variables_of(frame).items()):
            if _bad_array(value):
                return _made(frame, name, 0)
    return None


def _made(frame: FrameType, name: str, depth: int) -> Place | None:
    expression = assignment(frame, name)
    if expression is None or depth > MAX_DEPTH:
        return None
    held = variables_of(frame)
    names = [node.id for node in ast.walk(expression) if isinstance(node, ast.Name) and node.id in held]
    arrays = [used for used in names if used != name and (_bad_array(held[used]) is not None)]
    for used in arrays:
        if _bad_array(held[used]):
            return _made(frame, used, depth + 1)
    own = _bad_array(held.get(name)) and name in names  # a = np.log(a)
    if not own and not arrays:
        return None
    file = frame.f_code.co_filename
    calls = [node.func for node in ast.walk(expression) if isinstance(node, ast.Call)]
    called = {function.id for function in calls if isinstance(function, ast.Name)}
    inside = [place for one in called if (place := sources.only_leaving_in(file, one)) is not None]
    return inside[0] if len(inside) == 1 else sources.place(file, expression.lineno)


def _bad_array(value: Any) -> bool | None:
    """None: no array of numbers."""
    numpy = sys.modules["numpy"]
    if isinstance(value, Tensor) or not isinstance(value, numpy.ndarray) or value.dtype.kind != "f":
        return None
    return not bool(numpy.isfinite(value).all())

