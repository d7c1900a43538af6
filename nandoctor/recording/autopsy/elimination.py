"""Calls of the tape that can make a value which is not finite: where nothing can be repeated, one line may be left."""

import linecache
from collections.abc import Iterator

import torch

from ..frames import relative
from ..incident import Place
from .operations import public_function
from .tape import Entry

# can make a value that is not finite of ordinary ones
LEAVE = frozenset(
    """log log2 log10 log1p logit sqrt rsqrt div reciprocal pow acos asin acosh atanh exp expm1 exp2 std var std_mean
    var_mean softmax log_softmax mean nanmean xlogy fmod remainder lgamma digamma erfinv sinh cosh inv cholesky det
    logdet eigh svd solve logsumexp float_power addcdiv cov corrcoef normalize square sum matmul linear mul""".split()
)
ONLY_IN_HALF = frozenset("square sum matmul linear mul exp pow".split())  # of these, by overflow of ordinary numbers


def above(entries: list[Entry]) -> Iterator[Entry]:
    seen: set[int] = set()
    todo = list(entries)
    while todo:
        entry = todo.pop()
        if entry.number in seen:
            continue
        seen.add(entry.number)
        yield entry
        todo += [given.source for given in entry.parents if isinstance(given.source, Entry)]


def can_leave(entry: Entry) -> bool:
    op = name_of(entry)
    if op in ONLY_IN_HALF and op not in ("exp", "pow"):
        return entry.autocast is not None and entry.autocast[2] and entry.autocast[1] is torch.float16
    if op == "div":  # by a number that is not 0
        return not (len(entry.args) > 1 and isinstance(entry.args[1], (int, float)) and entry.args[1])
    if op == "pow":
        exponent = entry.args[1] if len(entry.args) > 1 else None
        return not (isinstance(exponent, (int, float)) and exponent >= 1 and exponent == int(exponent))
    if op == "mean":
        return False  # over nothing only
    return op in LEAVE


def name_of(entry: Entry) -> str:
    name = entry.func.__self__.__name__ if entry.name == "__get__" else entry.name
    return public_function(name)


def place_of(entry: Entry) -> Place:
    if entry.file is None:
        return Place()
    return Place(relative(entry.file), entry.line, linecache.getline(entry.file, entry.line).strip() or None)
