"""The columns of run.parquet: names, types, what fills them. numpy only; in words: docs/trace-format.md"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nandoctor.trace.rows import ENDS_OF_TENSORS, Timed, believable
from nandoctor.trace.schema import (
    BAD,
    CLIPPED,
    DTYPES,
    KIND_NAMES,
    KINDS,
    MODES,
    NO_GRAD,
    NO_SHAPE,
    NORM_ONLY,
    RECOMPUTED,
    SAMPLED,
    SCALED,
    SKIPPED,
)
from nandoctor.trace.trace import Trace

CLOCK = {"order": "int64", "step": "int32", "batch": "int32", "micro": "int32", "epoch": "int32"}
WORDS = ("kind", "layer", "tensor", "module", "dtype", "shape", "mode")
WHOLE = {"call": "int32", "subject": "int32"}
FLAGS = {
    "nonfinite": BAD, "scaled": SCALED, "clipped": CLIPPED, "sampled": SAMPLED, "skipped": SKIPPED,
    "recomputed": RECOMPUTED, "no_grad": NO_GRAD,
}  # fmt: skip
REALS = ("low", "high", "norm", "value", "max_norm", "divisor", "slope")
COUNTS = ("nan_count", "inf_count", "first_bad", "ignored", "found_inf", "of", "zeros", "looks")
COLUMNS = {  # name -> type, in the order in which people see them
    **{name: CLOCK[name] for name in CLOCK},
    "kind": "string", "layer": "string", "tensor": "string", "module": "string", "mode": "string",
    "dtype": "string", "shape": "string", "count": "int64", "call": "int32",
    "nonfinite": "bool",
    **{name: "double" for name in REALS},
    **{name: "int64" for name in COUNTS},
    **{name: "bool" for name in FLAGS if name != "nonfinite"},
    "subject": "int32", "rank": "int32",
}  # fmt: skip
LATER = ("divisor", "slope", "of", "zeros", "looks", "rank")  # since versions 2 and 3: older files lack them
NULLABLE = ("layer", "tensor", "module", "dtype", "shape", "count", *REALS, *COUNTS)

# place of a number among a, b, c by kind; -1 where the kind does not have it
PLACE = {
    number: np.array([KINDS[kind].index(number) if number in KINDS[kind] else -1 for kind in KIND_NAMES])
    for number in (*REALS, *COUNTS)
}

Nullable = tuple[NDArray[Any], NDArray[np.bool_]]  # values, and whether each is there


class Lexicon:
    """The words that notes give to subject and shape ids."""

    def __init__(self, trace: Trace) -> None:
        rank = trace.header.get("rank")
        self.rank = rank if isinstance(rank, int) and 0 <= rank < 2**31 else 0
        self.subject_words: dict[str, Mapping[int, str | None]] = {
            "layer": {number: subject.name for number, subject in trace.subjects.items()},
            "tensor": {number: subject.tensor for number, subject in trace.subjects.items()},
            "module": {number: subject.module for number, subject in trace.subjects.items()},
        }
        self.shape_words = {number: shape_text(shape) for number, shape in trace.shapes.items()}
        self.counts = np.full(NO_SHAPE + 1, -1, np.int64)
        for number, shape in trace.shapes.items():
            self.counts[number] = _elements(shape)

    def words(self, column: str, rows: NDArray[np.void]) -> tuple[NDArray[np.int32], list[str]]:
        """A column as places in a list of its words; -1 where it has none."""
        if column == "kind":
            return _used(rows["kind"], dict(enumerate(KIND_NAMES)))
        fields = believable(rows)
        if column == "mode":
            return _used(fields["mode"], dict(enumerate(MODES)))
        if column == "dtype":
            return _used(fields["dtype"], {number: name or None for number, name in enumerate(DTYPES)})
        if column == "shape":
            return _used(fields["shape"], self.shape_words)
        return _used(fields["subject"], self.subject_words[column])


def shape_text(shape: tuple[int, ...]) -> str:
    """(32, 10) -> "32x10"; the shape of a single number is "scalar"."""
    return "x".join(map(str, shape)) or "scalar"


def _elements(shape: tuple[int, ...]) -> int:
    count = 1
    for size in shape:
        count *= size
    return min(count, 2**62)


def _used(ids: NDArray[Any], names: Mapping[int, str | None]) -> tuple[NDArray[np.int32], list[str]]:
    """Only the words that occur: a row group holds its own dictionary."""
    unique, inverse = np.unique(ids, return_inverse=True)
    places: dict[str, int] = {}
    table = np.full(len(unique), -1, np.int32)
    for at, number in enumerate(unique.tolist()):
        name = names.get(number)
        if name is not None:
            table[at] = places.setdefault(name, len(places))
    return table[inverse.reshape(-1)], list(places)


def clock(block: Timed) -> dict[str, NDArray[Any]]:
    fields = believable(block.rows)
    return {
        "order": block.order, "step": fields["step"], "batch": block.batch.astype(np.int32),
        "micro": block.micro.astype(np.int32), "epoch": block.epoch.astype(np.int32),
        "call": fields["call"], "subject": fields["subject"],
    }  # fmt: skip


def number(name: str, rows: NDArray[np.void]) -> Nullable:
    """low, norm, value, ...: there where the row's kind has it and it was measured. NaN is a value."""
    place = PLACE[name][rows["kind"]]
    values = np.where(place == 0, rows["a"], np.where(place == 1, rows["b"], rows["c"]))
    there = place >= 0
    if name in ("low", "high"):
        there &= ~(ENDS_OF_TENSORS[rows["kind"]] & ((rows["flags"] & NORM_ONLY) != 0))
    if name in COUNTS:
        there &= np.isfinite(values)
        return np.clip(np.where(there, values, 0), -(2.0**62), 2.0**62).astype(np.int64), there
    return np.where(there, values, 0.0), there
