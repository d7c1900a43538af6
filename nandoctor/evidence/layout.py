"""What the models are made of, the weights they began with and the inputs they were given: for edits of a script."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..trace.schema import BAD
from ..trace.trace import Trace
from . import fields
from .layers import classes
from .series import median
from .sizes import LARGEST, WHOLE, elements
from .weights import initial


@dataclass(frozen=True)
class First:
    """A parameter before the first step."""

    shape: tuple[int, ...]
    std: float  # its norm over the root of its size: the spread about 0
    low: float
    high: float
    bad: bool  # NaN or Inf

    @property
    def gain(self) -> float:
        """std * sqrt(fan-in): 0.58 nn.Linear's default, 1.41 He."""
        return self.std * math.sqrt(math.prod(self.shape[1:]))

    @property
    def absmax(self) -> float:
        return max(abs(self.low), abs(self.high))


@dataclass(frozen=True)
class Given:
    """A tensor that the model was called with."""

    place: str  # its position or name among the arguments
    shape: tuple[int, ...]  # of the first batch
    usual: float | None  # median over the batches of their largest absolute value
    floating: bool
    peaked: float | None = None  # its largest value / its root mean square, median over the batches


@dataclass(frozen=True)
class Layout:
    models: int
    modules: Mapping[str, str]  # class by dotted path; "" is the model itself
    parameters: Mapping[str, tuple[int, ...]]  # shape by dotted path, in the model's order
    first: Mapping[str, First]
    inputs: tuple[Given, ...]


def gather(trace: Trace) -> Layout | None:
    shapes: dict[str, tuple[int, ...]] = {}
    models = 0
    for note in trace.notes_of("model"):
        listed = [p for p in fields.items(note, "parameters") if isinstance(p, (list, tuple)) and len(p) >= 2]
        models += bool(listed)
        for entry in listed:
            if isinstance(entry[1], (list, tuple)):
                shapes[str(entry[0])] = tuple(n for n in entry[1] if isinstance(n, int))
    if not shapes:
        return None
    return Layout(models, classes(trace), shapes, _first(trace), _inputs(trace))


def _first(trace: Trace) -> dict[str, First]:
    found = {}
    for row in initial(trace, trace.rows("weight")):
        subject, shape = trace.subjects.get(int(row["subject"])), trace.shapes.get(int(row["shape"]), ())
        count = math.prod(shape)
        if subject is not None and 0 < count <= LARGEST:
            std = float(row["norm"]) / math.sqrt(count)
            bad = bool(row["flags"] & BAD)
            found[subject.name] = First(shape, std, float(row["low"]), float(row["high"]), bad)
    return found


def _inputs(trace: Trace) -> tuple[Given, ...]:
    rows = trace.rows("input")
    rows = rows[rows["mode"] == 0]
    found = []
    for number in np.unique(rows["subject"]):
        own, subject = rows[rows["subject"] == number], trace.subjects.get(int(number))
        if subject is None or subject.name:  # another model's
            continue
        loud = np.maximum(np.abs(own["low"]), np.abs(own["high"]))
        usual = median(loud[np.isfinite(loud)])
        shape = trace.shapes.get(int(own["shape"][0]), ())
        with np.errstate(all="ignore"):
            peaks = loud * np.sqrt(np.maximum(elements(trace, own["shape"]), 1)) / own["norm"]
        floating = int(own["dtype"][0]) not in WHOLE
        found.append(Given(subject.tensor or "", shape, usual, floating, median(peaks[np.isfinite(peaks)])))
    return tuple(found)
