"""The one table that every log becomes: epoch, step, losses, learning rate, gradient norm, warnings."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from nandoctor.logs.columns import EPOCH, STEP, role_of

Floats = NDArray[np.float64]
SUMMARY = 3  # a loss that a log holds so often at most is a summary, where another one is there more often


@dataclass(frozen=True)
class Warned:
    """A line that says what went wrong, in words that are known (warnings.py)."""

    what: str  # a name of warnings.py
    text: str
    batch: int | None = None  # as the line counts them: from 1
    norm: float | None = None
    skipped: bool = False  # the batch, or its update, was left out


@dataclass(frozen=True)
class Row:
    """What one line, or one record, says. None: it does not say it."""

    epoch: float | None = None
    step: int | None = None
    train: float | None = None
    validation: float | None = None
    lr: float | None = None
    norm: float | None = None
    warned: Warned | None = None


@dataclass(frozen=True)
class Crash:
    """An exception that the log shows: its type and its first line."""

    type: str
    message: str


@dataclass(frozen=True)
class Said:
    """What the rest of a text log says of the run."""

    precision: str | None = None  # fp16, bf16, fp32
    optimizer: str | None = None
    batch_size: int | None = None
    accelerate: bool = False
    crash: Crash | None = None
    filtered: bool = False  # Hugging Face's Trainer, which writes other numbers where the loss was NaN


@dataclass(frozen=True)
class Log:
    path: str
    kind: str  # in words: "a text log"
    rows: tuple[Row, ...]
    said: Said = field(default_factory=Said)
    rivals: bool = False  # losses of a GAN or of reinforcement learning: they need not fall
    first_epoch: float | None = None  # the number of the first epoch: 0 or 1

    def column(self, name: str) -> Floats:
        """One column, a number for each row; where the row does not hold it, a NaN that `known` leaves out."""
        return np.array([math.nan if (value := getattr(row, name)) is None else float(value) for row in self.rows])

    def known(self, name: str) -> NDArray[np.int64]:
        """The places of the rows that hold this column."""
        return np.array([n for n, row in enumerate(self.rows) if getattr(row, name) is not None], np.int64)

    @cached_property
    def epochs(self) -> tuple[int | None, ...]:
        """For each row the epoch it belongs to, counted from 1 as the documents do."""
        found: list[int | None] = []
        last: int | None = None
        fractions = any(row.epoch is not None and row.epoch % 1 for row in self.rows)  # 0.25: a quarter of the first
        for row in self.rows:
            if row.epoch is not None:
                last = math.ceil(row.epoch) if fractions else int(row.epoch) + (self.first_epoch == 0)
                last = max(1, last)
            found.append(last)
        return tuple(found)

    @property
    def warnings(self) -> list[tuple[int, Warned]]:
        return [(n, row.warned) for n, row in enumerate(self.rows) if row.warned is not None]


Record = Mapping[str, float]  # name of the log's own -> number


def from_records(records: Iterable[Record | Warned], path: str, kind: str, said: Said | None = None) -> Log:
    """Rows by what the columns mean. Of several losses the one that fails first, else the one told most often."""
    told = list(records)
    named = [record for record in told if not isinstance(record, Warned)]
    chosen = {role: _chosen(named, role) for role in ("train", "validation", "lr", "norm", EPOCH, STEP)}
    rows: list[Row] = []
    for record in told:
        if isinstance(record, Warned):
            rows.append(Row(warned=record))
            continue
        found = {role: record.get(name) for role, name in chosen.items() if name is not None}
        row = Row(
            epoch=_finite(found.get(EPOCH)),
            step=_whole(found.get(STEP)),
            train=found.get("train"),
            validation=found.get("validation"),
            lr=found.get("lr"),
            norm=found.get("norm"),
        )
        if rows and _redrawn(rows[-1], row):
            rows.pop()
        if row != Row():
            rows.append(row)
    epochs = [row.epoch for row in rows if row.epoch is not None]
    return Log(path, kind, tuple(rows), said or Said(), _rivals(named), min(epochs, default=None))


def _chosen(records: list[Record], role: str) -> str | None:
    """The name under which the log tells this."""
    count: dict[str, int] = {}
    fails: dict[str, int] = {}
    roles = (role,)
    if role == "train" and not any(role_of(name) == role for record in records for name in record):
        roles = ("rival",)
    for place, record in enumerate(records):
        for name, value in record.items():
            if role_of(name) in roles:
                count[name] = count.get(name, 0) + 1
                if not math.isfinite(value):
                    fails.setdefault(name, place)
    if not count:
        return None
    most = max(count.values())
    names = [name for name in count if count[name] > SUMMARY or most <= SUMMARY or name in fails]
    if role in ("train", "validation") and any(name in fails for name in names):
        return min((name for name in names if name in fails), key=lambda name: fails[name])
    return max(names or count, key=lambda name: count[name])


def _redrawn(before: Row, now: Row) -> bool:
    """A progress bar draws the same step again and again: the last time counts."""
    same = before.step is not None and (before.step, before.epoch) == (now.step, now.epoch) and before.warned is None
    return (
        same
        and (now.train is not None or before.train is None)
        and (now.validation is not None or before.validation is None)
    )


def _rivals(records: list[Record]) -> bool:
    return any(role_of(name) == "rival" for record in records[:50] for name in record)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) and abs(value) < 1e9 else None


def _whole(value: float | None) -> int | None:
    return int(value) if value is not None and math.isfinite(value) and 0 <= value < 2**53 else None
