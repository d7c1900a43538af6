"""The rows of `nandoctor show`: one line each, in order of time."""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from heapq import nsmallest

import numpy as np
from numpy.typing import NDArray

from nandoctor.errors import bad_filter
from nandoctor.report.plain import plain
from nandoctor.trace.columns import FLAGS, shape_text
from nandoctor.trace.schema import DTYPES, KIND_NAMES, KINDS, MODES, NORM_ONLY, TENSOR_KINDS
from nandoctor.trace.table import as_rows
from nandoctor.trace.trace import Rows, Trace

WIDEST_NAME = 60  # characters of a layer's name in the table
HEAD = ("step", "batch", "kind", "layer", "mode", "dtype", "shape", "numbers")


@dataclass(frozen=True)
class Filter:
    first: int
    last: int
    layer: str | None
    kinds: tuple[str, ...]

    @staticmethod
    def of(step: str | None, layer: str | None, kinds: list[str] | None) -> "Filter | None":
        """None where nothing is filtered. Raises UserError for what is no filter."""
        for kind in kinds or ():
            if kind not in KINDS:
                raise bad_filter(f"--kind {kind}", f"the kinds are {', '.join(KIND_NAMES)}")
        if step is None and layer is None and not kinds:
            return None
        first, last = _steps(step) if step is not None else (0, 2**31)
        return Filter(first, last, layer, tuple(kinds or KIND_NAMES))

    def choose(self, rows: Rows, trace: Trace) -> Rows:
        chosen = (rows["step"] >= self.first) & (rows["step"] <= self.last)
        if self.layer is not None:
            chosen &= np.isin(rows["subject"], self._subjects(trace))
        return rows[chosen]

    def _subjects(self, trace: Trace) -> NDArray[np.int64]:
        pattern = self.layer or "*"
        found = [number for number, subject in trace.subjects.items() if fnmatchcase(subject.name, pattern)]
        return np.array(found, np.int64)


def _steps(text: str) -> tuple[int, int]:
    first, colon, last = text.partition(":")
    try:
        start = int(first) if first or not colon else 0
        end = (int(last) if last else 2**31) if colon else start
    except ValueError:
        raise bad_filter(f"--step {text}", "steps are given as 41, 30:40, 30: or :40") from None
    return start, end


def rows_text(trace: Trace, wanted: Filter, limit: int) -> str:
    total = 0
    first: list[tuple[int, tuple[str, ...]]] = []
    for kind in wanted.kinds:
        rows = wanted.choose(as_rows(trace.load(kind)), trace)  # not trace.rows: that would keep every kind in memory
        total += len(rows)
        first += [(int(row["order"]), _cells(row, kind, trace)) for row in rows[:limit]]
        first = nsmallest(limit, first)
    if not total:
        return "no rows match; `nandoctor show` without a filter says which steps, layers and kinds there are"
    table = [HEAD, *(cells for _, cells in first)]
    widths = [max(len(cells[place]) for cells in table) for place in range(len(HEAD))]
    lines = [_line(cells, widths) for cells in table]
    if total > len(first):
        lines.append(f"... {total - len(first):,} more rows; --limit {total} shows all")
    return "\n".join(lines)


def _line(cells: tuple[str, ...], widths: list[int]) -> str:
    aligned = [
        cell.rjust(width) if name in ("step", "batch") else cell.ljust(width)
        for name, cell, width in zip(HEAD, cells, widths, strict=True)
    ]
    return "  ".join(aligned).rstrip()


def _cells(row: np.void, kind: str, trace: Trace) -> tuple[str, ...]:
    subject = trace.subjects.get(int(row["subject"]))
    name = "" if subject is None else subject.name + (f" [{subject.tensor}]" if subject.tensor else "")
    shape = trace.shapes.get(int(row["shape"]))
    return (
        str(row["step"]),
        str(row["batch"]),
        kind,
        plain(name, WIDEST_NAME) + (f" call {row['call']}" if row["call"] else ""),
        MODES[int(row["mode"])],
        DTYPES[int(row["dtype"])],
        "" if shape is None else plain(shape_text(shape), 24),
        _numbers(row, kind),
    )


def _numbers(row: np.void, kind: str) -> str:
    flags = int(row["flags"])
    unmeasured = ("low", "high") if kind in TENSOR_KINDS and flags & NORM_ONLY else ()
    numbers = [f"{name} {row[name]:.6g}" for name in KINDS[kind] if name and name not in unmeasured]
    return "  ".join([*numbers, *(f"[{name}]" for name, bit in FLAGS.items() if flags & bit)])
