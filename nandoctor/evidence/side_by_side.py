"""The rows of one kind of two recordings side by side, and the first that is not the same in both. numpy only."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..trace.schema import DTYPES, KINDS, MODES, TENSOR_KINDS
from ..trace.trace import Rows, Trace
from .series import Floats, per_step

PHASES = {
    "batch": "input", "labels": "input", "input": "input", "epoch": "input", "activation": "forward",
    "silent_units": "forward", "batchnorm_count": "forward", "loss": "loss", "backward": "loss", "weight": "optimizer",
    "update": "optimizer", "learning_rate": "optimizer", "step": "optimizer", "foreign_write": "weights",
}  # fmt: skip
EPS = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float64": 2.0**-52}  # of a dtype; float32 for all others
FLOAT32_EPS = 2.0**-23
ROUNDING = 32  # eps: kernels that add in another order differ by less, in an end or a norm of a tensor
RANDOM = ("Dropout", "RReLU", "Noise", "Stochastic", "DropPath", "Random")  # modules whose output is drawn


@dataclass(frozen=True)
class Parting:
    """The first row that is not the same in both."""

    step: int
    phase: str
    kind: str
    layer: str | None
    module: str | None
    tensor: str | None
    number: str  # which number of the row: high, norm, value; "shape" and the like where the row itself differs
    a: float | str | None
    b: float | str | None
    relative: float  # inf where only one is finite, or the rows are no match
    dtype: str
    order: int
    mode: str = "train"
    only_in: str | None = None  # "A" or "B": the other recording has no such row

    @property
    def rounding(self) -> bool:
        """Small enough for sums taken in another order."""
        return self.relative <= tolerance(self.dtype)

    @property
    def random(self) -> bool:
        return any(word in (self.module or "") for word in RANDOM)


def tolerance(dtype: str) -> float:
    return ROUNDING * EPS.get(dtype, FLOAT32_EPS)


class Pair:
    """The rows of one kind of both traces, side by side as far as they are of the same things."""

    def __init__(self, kind: str, a: Trace, b: Trace, numbers: tuple[Mapping[int, int], Mapping[int, int]]) -> None:
        self.kind = kind
        self._traces, self._rows = (a, b), (a.rows(kind), b.rows(kind))
        self.count = _matching(self._rows, numbers)
        left, right = (rows if self.count == len(rows) else rows[: self.count] for rows in self._rows)
        self._differs = np.zeros(self.count, bool)
        self._relative = np.zeros(self.count)
        for name in ("dtype", "shape", "flags"):
            unequal = left[name] != right[name] if name != "shape" else _shapes(a, left) != _shapes(b, right)
            self._differs |= unequal
            self._relative[unequal] = math.inf
        self._numbers: list[str] = [name for name in KINDS[kind] if name]
        for name in self._numbers:
            x, y = left[name], right[name]
            unequal = (x != y) & ~(np.isnan(x) & np.isnan(y))
            if unequal.any():
                self._differs |= unequal
                places = np.flatnonzero(unequal)
                relative = _relative(x[places], y[places], self._scale(name, places))
                self._relative[places] = np.maximum(self._relative[places], relative)
        self.drift = per_step(left["step"][self._differs], self._relative[self._differs], "max")

    def _scale(self, name: str, places: NDArray[np.int64]) -> Floats:
        """What a difference is measured against: the ends of a tensor share their largest absolute value."""
        names = ("low", "high") if name in ("low", "high") and self.kind in TENSOR_KINDS else (name,)
        sizes = [np.abs(rows[one][places]) for rows in self._rows for one in names]
        return np.asarray(np.fmax.reduce(sizes), np.float64)

    def partings(self, ends: tuple[int, int], any_bit: bool) -> Iterator[Parting]:
        """The first row that differs in both, and the first that only one of them has."""
        different = self._differs
        if not any_bit and different.any():
            kinds = np.array([tolerance(name) for name in DTYPES])[self._rows[0]["dtype"][: self.count]]
            different = different & (self._relative > kinds)
        found = np.flatnonzero(different)
        if len(found):
            yield self._value(int(found[0]))
        extra = self._extra(ends)
        if extra is not None:
            yield extra

    def before(self, order: int) -> int:
        return min(self.count, int(np.searchsorted(self._rows[0]["order"], order)))

    def random_before(self, order: int) -> int:
        """Equal outputs of modules that draw random numbers."""
        if self.kind != "activation":
            return 0
        drawn = [n for n, s in self._traces[0].subjects.items() if any(word in (s.module or "") for word in RANDOM)]
        return int(np.isin(self._rows[0]["subject"][: self.before(order)], drawn).sum())

    def same_before(self, parting: Parting) -> int:
        """Steps in which what parts was equal before."""
        if self.kind != parting.kind:
            return 0
        rows, end = self._rows[0], self.before(parting.order)
        mine = [n for n, s in self._traces[0].subjects.items() if (s.name, s.tensor) == (parting.layer, parting.tensor)]
        return len(np.unique(rows["step"][:end][np.isin(rows["subject"][:end], mine)]))

    def initial_differs(self) -> bool:
        """Whether a weight is not the same before the first backward."""
        found = np.flatnonzero(self._differs)
        return self.kind == "weight" and len(found) > 0 and self._value(int(found[0])).phase == "weights"

    def _value(self, place: int) -> Parting:
        left, right = self._rows[0][place], self._rows[1][place]
        worst: tuple[float, str, float | str | None, float | str | None] | None = None
        for name in self._numbers:
            x, y = np.array([float(left[name])]), np.array([float(right[name])])
            if x[0] != y[0] and not (np.isnan(x[0]) and np.isnan(y[0])):
                relative = float(_relative(x, y, self._scale(name, np.array([place])))[0])
                if worst is None or relative > worst[0]:
                    worst = (relative, name, float(x[0]), float(y[0]))
        if worst is None:
            worst = (math.inf, *self._form(place))
        return self._parting(0, place, *worst)

    def _form(self, place: int) -> tuple[str, str, str]:
        (a, b), (left, right) = self._traces, self._rows
        shapes = str(a.shapes.get(int(left["shape"][place]))), str(b.shapes.get(int(right["shape"][place])))
        if shapes[0] != shapes[1]:
            return "shape", shapes[0], shapes[1]
        name = "dtype" if self._rows[0]["dtype"][place] != self._rows[1]["dtype"][place] else "flags"
        found = [int(rows[name][place]) for rows in self._rows]
        words = [DTYPES[number] if name == "dtype" else f"{number:#x}" for number in found]
        return name, words[0], words[1]

    def _extra(self, ends: tuple[int, int]) -> Parting | None:
        steps = [int(rows["step"][self.count]) if self.count < len(rows) else None for rows in self._rows]
        if steps[0] is None and steps[1] is None:
            return None
        which = 0 if steps[1] is None or (steps[0] is not None and steps[0] <= steps[1]) else 1
        step, other = steps[which], steps[1 - which]
        assert step is not None
        if other is None and step >= ends[1 - which]:
            return None  # the other recording ended there
        return self._parting(which, self.count, math.inf, "row", None, None, only_in="AB"[which])

    def _parting(
        self, which: int, place: int, relative: float, number: str,
        a: float | str | None, b: float | str | None, only_in: str | None = None,
    ) -> Parting:  # fmt: skip
        row, trace = self._rows[which][place], self._traces[which]
        subject = trace.subjects.get(int(row["subject"]))
        phase = PHASES.get(self.kind, "backward")
        if self.kind == "weight" and (trace.rows("backward")["order"][:1] > row["order"]).any():
            phase = "weights"  # as initialised
        return Parting(
            int(row["step"]), phase, self.kind, subject.name if subject else None, subject.module if subject else None,
            subject.tensor if subject else None, number, a, b, relative, DTYPES[int(row["dtype"])], int(row["order"]),
            MODES[int(row["mode"])], only_in,
        )  # fmt: skip


def _matching(rows: tuple[Rows, Rows], numbers: tuple[Mapping[int, int], Mapping[int, int]]) -> int:
    """How many rows from the start are of the same step, subject, call and mode."""
    shorter = min(map(len, rows))
    same = np.ones(shorter, bool)
    for name in ("step", "call", "mode"):
        same &= rows[0][name][:shorter] == rows[1][name][:shorter]
    subjects = [_translated(one["subject"][:shorter], known) for one, known in zip(rows, numbers, strict=True)]
    same &= subjects[0] == subjects[1]
    return shorter if same.all() else int(np.argmin(same))


def _translated(ids: NDArray[np.integer[Any]], known: Mapping[int, int]) -> NDArray[np.int64]:
    unique, places = np.unique(ids, return_inverse=True)
    return np.array([known.get(int(number), -1) for number in unique], np.int64)[places]


def _shapes(trace: Trace, rows: Rows) -> NDArray[Any]:
    """Shapes as numbers that mean the same in both traces."""
    unique, places = np.unique(rows["shape"], return_inverse=True)
    return np.array([hash(trace.shapes.get(int(number))) for number in unique], np.int64)[places]


def _relative(x: Floats, y: Floats, scale: Floats) -> Floats:
    with np.errstate(all="ignore"):
        difference = np.abs(x - y) / scale
    both = np.isfinite(x) & np.isfinite(y)
    return np.where(both, difference, math.inf)
