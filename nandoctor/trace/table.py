"""Rows of one kind, read when they are asked for: a column at a time, of chosen rows only. numpy only.

`Rows` is used like a structured array that nobody writes to: rows["norm"], rows[rows["step"] > 3], rows[-1], len(rows).
A choice of rows reads nothing; a column of it reads those parts of the file that hold the chosen rows.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import partial
from typing import Any, Protocol, overload

import numpy as np
from numpy.typing import NDArray

Records = NDArray[np.void]
Places = NDArray[np.int64]
Column = NDArray[Any]


def as_rows(found: "Rows | Records") -> "Rows":
    return found if isinstance(found, Rows) else Rows(InMemory(found))


class Source(Protocol):
    """Where the columns of one kind come from, in order of time."""

    @property
    def dtype(self) -> np.dtype[np.void]: ...
    def __len__(self) -> int: ...
    def column(self, name: str) -> Column: ...
    def take(self, name: str, places: Places) -> Column: ...


class InMemory:
    """Rows that are there anyway."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self.dtype = records.dtype

    def __len__(self) -> int:
        return len(self._records)

    def column(self, name: str) -> Column:
        return self._records[name]

    def take(self, name: str, places: Places) -> Column:
        return np.asarray(self._records[name][places])


class Rows:
    """Rows of one kind, or a choice of them."""

    def __init__(self, source: Source, places: Places | None = None) -> None:
        self._source = source
        self._places = places  # None: all
        self._columns: dict[str, Column] = {}

    @property
    def dtype(self) -> np.dtype[np.void]:
        return self._source.dtype

    def __len__(self) -> int:
        return len(self._source) if self._places is None else len(self._places)

    @overload
    def __getitem__(self, key: str) -> Column: ...
    @overload
    def __getitem__(self, key: int | np.integer[Any]) -> np.void: ...
    @overload
    def __getitem__(self, key: slice | NDArray[Any] | list[int]) -> "Rows": ...
    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            return self._column(key)
        if isinstance(key, (int, np.integer)):
            return self._chosen(np.array([key]))._records()[0]
        return self._chosen(key)

    def __iter__(self) -> Iterator[np.void]:
        return iter(self._records())

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Records:
        records = self._records()
        return records if dtype is None else records.astype(dtype)

    def _column(self, name: str) -> Column:
        if self._places is None:
            return self._source.column(name)
        if name not in self._columns:
            self._columns[name] = self._source.take(name, self._places)
        return self._columns[name]

    def _chosen(self, key: slice | Sequence[int] | NDArray[Any]) -> "Rows":
        if isinstance(key, slice):
            if self._places is not None:
                return Rows(self._source, self._places[key])
            return Rows(self._source, np.arange(*key.indices(len(self)), dtype=np.int64))
        key = np.asarray(key)
        if key.dtype == np.bool_:
            if len(key) != len(self):
                raise IndexError(f"a mask of {len(key)} for {len(self)} rows")
            if key.all():
                return self
            found = np.flatnonzero(key)
            return Rows(self._source, found if self._places is None else self._places[found])
        key = key.astype(np.int64)
        if len(key) and not -len(self) <= key.min() <= key.max() < len(self):
            raise IndexError(f"{key.min()} to {key.max()} of {len(self)} rows")
        key = np.where(key < 0, key + len(self), key)
        return Rows(self._source, key if self._places is None else self._places[key])

    def _records(self) -> Records:
        out: Records = np.empty(len(self), self.dtype)
        for name in self.dtype.names or ():
            out[name] = self._column(name)
        return out


class Kept:
    """Arrays that may be asked for again: the latest that fit."""

    def __init__(self, limit: int) -> None:
        self._limit = limit  # bytes
        self._bytes = 0
        self._arrays: OrderedDict[Hashable, Column] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Column]) -> Column:
        found = self._arrays.get(key)
        if found is not None:
            self._arrays.move_to_end(key)
            return found
        made = make()
        made.flags.writeable = False
        self._arrays[key] = made
        self._bytes += made.nbytes
        while self._bytes > self._limit and len(self._arrays) > 1:
            self._bytes -= self._arrays.popitem(last=False)[1].nbytes
        return made


class InGroups:
    """Rows of one kind that lie in parts of a file (row groups), each sorted otherwise than by time.

    `read(group, name)` gives a whole column of one part, `held` the places that the kind has there, None: all.
    """

    def __init__(
        self,
        kind: str,
        dtype: np.dtype[np.void],
        groups: Sequence[tuple[int, Places | None]],
        read: Callable[[int, str], Column],
        kept: Kept,
    ) -> None:
        self.dtype = dtype
        self._kind = kind
        self._read = read
        self._kept = kept
        self._groups: list[int] = []
        self._in_time: list[NDArray[np.int32] | None] = []  # rows of each part in order of time; None: as they lie
        ends = [0]
        lasts: list[tuple[int, int]] = []
        for group, held in groups:
            order = read(group, "order")
            order = order if held is None else order[held]
            if len(order) == 0:
                continue
            in_time = np.argsort(order, kind="stable") if (np.diff(order) < 0).any() else None
            if in_time is not None:
                order, held = order[in_time], in_time if held is None else held[in_time]
            self._groups.append(group)
            self._in_time.append(None if held is None else held.astype(np.int32))
            ends.append(ends[-1] + len(order))
            lasts.append((int(order[0]), int(order[-1])))
        self._ends = np.array(ends, np.int64)
        self._order: Places | None = None  # only where the parts do not follow each other in time: another's file
        if any(later[0] < earlier[1] for earlier, later in zip(lasts, lasts[1:], strict=False)):
            self._order = np.argsort(self._whole("order"), kind="stable")

    def __len__(self) -> int:
        return int(self._ends[-1])

    def column(self, name: str) -> Column:
        return self._kept.get((self._kind, name), partial(self._whole, name))

    def take(self, name: str, places: Places) -> Column:
        """Of a few rows only the parts that hold them are read."""
        if self._order is not None or len(places) == 0:
            return self.column(name)[places]
        part = np.searchsorted(self._ends, places, side="right") - 1
        touched = np.flatnonzero(np.bincount(part))
        if len(touched) == len(self._groups):
            return self.column(name)[places]
        out: Column = np.empty(len(places), self.dtype[name])
        for number in touched:
            mine = part == number
            column = self._kept.get((self._kind, name, int(number)), partial(self._part, int(number), name))
            out[mine] = column[places[mine] - self._ends[number]]
        return out

    def _whole(self, name: str) -> Column:
        out: Column = np.empty(len(self), self.dtype[name])
        for number, start in enumerate(self._ends[:-1].tolist()):
            part = self._part(number, name)
            out[start : start + len(part)] = part
        return out if self._order is None else out[self._order]

    def _part(self, number: int, name: str) -> Column:
        column, in_time = self._read(self._groups[number], name), self._in_time[number]
        return column if in_time is None else column[in_time]
