"""A recorded run as the analysis sees it: notes, and rows by kind as numpy arrays. numpy only.

The same class serves a Parquet file, a spool that is still being written, and rows built by hand in a test.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from .schema import KINDS
from .table import Records, Rows, as_rows

__all__ = ["COMMON", "Records", "Rows", "Subject", "Trace", "dtype_of"]

COMMON = (
    ("order", "i8"),  # place in time
    ("step", "i4"),
    ("batch", "i4"),  # backward calls so far
    ("micro", "i4"),  # backward calls since the last step
    ("epoch", "i4"),  # iterations begun over the training loader, from 0; -1 before the first
    ("subject", "i4"),
    ("call", "i4"),
    ("dtype", "u1"),
    ("shape", "i4"),
    ("flags", "u1"),
    ("mode", "u1"),
)
MOST_STEPS = 2**31 - 1  # a step is an i4


def dtype_of(kind: str) -> np.dtype[np.void]:
    """The fields of rows(kind): COMMON, then the kind's own three numbers under their names."""
    names = [name or f"_{position}" for position, name in enumerate(KINDS[kind])]
    return np.dtype([*COMMON, *((name, "f8") for name in names)])


@dataclass(frozen=True)
class Subject:
    """What a row measured."""

    id: int
    name: str  # dotted module or parameter path, path inside a batch ("0", "labels"), optimizer.group, call name
    role: str  # module, parameter, input, batch, optimizer, loader, scaler, call, loss
    module: str | None = None  # class name of the module
    tensor: str | None = None  # path inside the module's output or the batch, None if it is the only tensor


@dataclass(frozen=True)
class Trace:
    """One process's recording. `load(kind)` gives the rows of one kind in order of time."""

    path: str
    notes: tuple[Mapping[str, Any], ...]
    load: Callable[[str], Rows | Records]
    alive: bool = False  # the writer still runs: read as far as it goes
    _cache: dict[str, Rows] = field(default_factory=dict, repr=False, compare=False)

    def rows(self, kind: str) -> Rows:
        """Rows of one kind in order of time; fields as in dtype_of(kind). Empty if the trace has none."""
        if kind not in self._cache:
            self._cache[kind] = as_rows(self.load(kind))
        return self._cache[kind]

    def notes_of(self, kind: str) -> list[Mapping[str, Any]]:
        """All notes of one kind, oldest first."""
        return [note for note in self.notes if note.get("note") == kind]

    @cached_property
    def header(self) -> Mapping[str, Any]:
        found = self.notes_of("header")
        return found[0] if found else {}

    @cached_property
    def end(self) -> Mapping[str, Any]:
        found = self.notes_of("end")
        return found[-1] if found else {}

    @cached_property
    def subjects(self) -> Mapping[int, Subject]:
        return {
            int(note["id"]): Subject(
                int(note["id"]), str(note.get("name", "")), str(note.get("role", "")),
                note.get("module"), note.get("tensor"),
            )
            for note in self.notes_of("subject")
        }  # fmt: skip

    @cached_property
    def shapes(self) -> Mapping[int, tuple[int, ...]]:
        return {int(note["id"]): tuple(int(n) for n in note["shape"]) for note in self.notes_of("shape")}

    @cached_property
    def steps(self) -> int:
        """Optimizer steps that ended, done or skipped; of a long run not each has a row (recording/governor.py)."""
        rows = self.rows("step")
        last = int(rows["step"].max()) + 1 if len(rows) else 0
        told = [note.get("step") for note in self.notes_of("closed")[-1:]]
        return max([0, last, *(step for step in told if isinstance(step, int) and step <= MOST_STEPS)])
