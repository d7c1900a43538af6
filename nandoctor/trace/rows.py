"""Spool rows as numpy arrays, block by block, with batch, micro and epoch read from their order. numpy only.

Three columns are not recorded but follow from the order of rows; each counts what lies before the row:
    batch   `backward` rows
    micro   `backward` rows since the last `step` row
    epoch   `epoch` rows of the training loaders, minus 1
A loader is a training loader when, after one of its `epoch` rows, a `backward` comes before the next `epoch`
row and before any activation in eval mode (also a validation in the middle of an epoch precedes a backward).
Where no loader passes, because part of the model always runs in eval mode, the second condition is dropped.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .schema import DTYPES, KIND, KIND_NAMES, KINDS, MODES, NORM_ONLY, ROW_FIELDS, TENSOR_KINDS
from .trace import Records, dtype_of

Ints = NDArray[np.int64]

SPOOL_ROW = np.dtype([(name, "<" + code) for name, code in ROW_FIELDS])
READ_ROWS = 1 << 17  # rows read at a time where nothing is written: 5 MB
LARGEST = 2**31 - 1  # a step or subject beyond it is nonsense; Trace holds them in 32 bits
ENDS_OF_TENSORS = np.array([name in TENSOR_KINDS for name in KIND_NAMES])  # kinds to which NORM_ONLY applies
# what a training that died before its first backward has written, besides its exception
WRITTEN_FIRST = ("activation", "input", "batch")


@dataclass(frozen=True)
class RowSource:
    """Rows somewhere; `blocks(size)` reads them in order of time, again from the start at each call."""

    count: int
    blocks: Callable[[int], Iterator[Records]]
    close: Callable[[], None] = lambda: None


def rows_in_file(path: Path) -> RowSource:
    """The whole rows that lie in the file now; what a kill cut, and what comes later, is left out."""
    if not path.is_file():  # a pipe or a device would wait for ever
        return rows_in_memory(np.empty(0, SPOOL_ROW))
    opened = _Opened(path)
    count = os.fstat(opened.descriptor).st_size // SPOOL_ROW.itemsize

    def blocks(size: int) -> Iterator[Records]:
        with open(opened.descriptor, "rb", closefd=False) as file:
            for start in range(0, count, size):
                file.seek(start * SPOOL_ROW.itemsize)
                data = file.read(min(size, count - start) * SPOOL_ROW.itemsize)
                yield np.frombuffer(data, SPOOL_ROW, len(data) // SPOOL_ROW.itemsize)

    return RowSource(count, blocks, opened.close)


class _Opened:
    """A file that stays open while somebody may read it: its spool may be finished and removed meanwhile."""

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))

    def close(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def __del__(self) -> None:
        self.close()


def rows_in_memory(rows: Records) -> RowSource:
    return RowSource(len(rows), lambda size: (rows[start : start + size] for start in range(0, len(rows), size)))


@dataclass(frozen=True)
class Survey:
    """What rows hold in all; known before the first of them can be given its epoch."""

    counts: Ints  # by kind
    passed_in_training: bool  # something entered a model in train mode
    training_loaders: Ints  # subject ids

    def holds(self, kind: str) -> bool:
        return bool(self.counts[KIND[kind]])

    def trained(self, died: bool) -> bool:
        """Whether anything trained here; `died`: an exception ended the program."""
        return self.holds("step") or self.holds("backward") or (died and self.passed_in_training)


def survey(source: RowSource) -> Survey:
    counts = np.zeros(len(KIND_NAMES), np.int64)
    passed = False
    strict, loose = _Followers(), _Followers()
    entries = [KIND[name] for name in WRITTEN_FIRST]
    for block in source.blocks(READ_ROWS):
        kinds = block["kind"]
        counts += np.bincount(kinds, minlength=256)[: len(KIND_NAMES)]
        evaluating = (kinds == KIND["activation"]) & (block["mode"] == MODES.index("eval"))
        passed = passed or bool((np.isin(kinds, entries) & (block["mode"] == MODES.index("train"))).any())
        clock = (kinds == KIND["epoch"]) | (kinds == KIND["backward"])
        loose.see(block[clock])
        strict.see(block[clock | evaluating])
    return Survey(counts, passed, strict.loaders() if len(strict.loaders()) else loose.loaders())


class _Followers:
    """Collects the loaders whose `epoch` row is followed by a `backward`, among the rows that it is shown."""

    def __init__(self) -> None:
        self._last: Records = np.empty(0, SPOOL_ROW)
        self._found = np.empty(0, np.int64)

    def see(self, rows: Records) -> None:
        rows = np.concatenate([self._last, rows])
        kinds = rows["kind"]
        drawn = rows["subject"][:-1][(kinds[:-1] == KIND["epoch"]) & (kinds[1:] == KIND["backward"])]
        self._found = np.union1d(self._found, drawn.astype(np.int64))
        self._last = rows[-1:]

    def loaders(self) -> Ints:
        return self._found


class Timed(NamedTuple):
    """A block of rows of known kinds, with what their order says."""

    rows: Records
    order: Ints
    batch: Ints
    micro: Ints
    epoch: Ints


def timed(source: RowSource, seen: Survey, size: int = READ_ROWS) -> Iterator[Timed]:
    order, batch, batch_at_step, epoch = 0, 0, 0, -1
    for block in source.blocks(size):
        kinds = block["kind"]
        backward, step = kinds == KIND["backward"], kinds == KIND["step"]
        drawn = (kinds == KIND["epoch"]) & np.isin(block["subject"], seen.training_loaders)
        orders = order + np.arange(len(block), dtype=np.int64)
        batches = batch + np.cumsum(backward) - backward
        resets = np.maximum.accumulate(np.where(step, batches, batch_at_step))
        micros = batches - np.concatenate([[batch_at_step], resets[:-1]])
        epochs = epoch + np.cumsum(drawn) - drawn
        order += len(block)
        batch += int(backward.sum())
        batch_at_step = int(resets[-1]) if len(resets) else batch_at_step
        epoch += int(drawn.sum())
        known = kinds < len(KIND_NAMES)
        if known.all():
            yield Timed(block, orders, batches, micros, epochs)
        else:
            yield Timed(block[known], orders[known], batches[known], micros[known], epochs[known])


def rows_of(kind: str, source: RowSource, seen: Survey) -> Records:
    """Trace.load for rows that are not in a Parquet file."""
    out: Records = np.empty(int(seen.counts[KIND[kind]]), dtype_of(kind))
    filled = 0
    if len(out):
        for block in timed(source, seen):
            here = block.rows["kind"] == KIND[kind]
            piece = out[filled : filled + int(here.sum())]
            _fill(piece, Timed(*(part[here] for part in block)), kind)
            filled += len(piece)
    return out[:filled]


def _fill(out: Records, block: Timed, kind: str) -> None:
    rows = block.rows
    out["order"], out["batch"], out["micro"], out["epoch"] = (
        block.order,
        block.batch,
        block.micro,
        block.epoch,
    )
    for name, values in believable(rows).items():
        out[name] = values
    for position, name in enumerate(KINDS[kind]):
        out[name or f"_{position}"] = rows["abc"[position]] if name else np.nan
    if kind in TENSOR_KINDS:
        unmeasured = (rows["flags"] & NORM_ONLY) != 0
        out["low"][unmeasured] = out["high"][unmeasured] = np.nan


def believable(rows: Records) -> dict[str, NDArray[Any]]:
    """The integer fields of spool rows, within their vocabularies: a spool may come from a stranger."""
    return {
        "step": np.minimum(rows["step"], LARGEST).astype(np.int32),
        "subject": np.minimum(rows["subject"], LARGEST).astype(np.int32),
        "call": rows["call"].astype(np.int32),
        "dtype": np.minimum(rows["dtype"], len(DTYPES) - 1),
        "shape": rows["shape"].astype(np.int32),
        "flags": rows["flags"],
        "mode": np.minimum(rows["mode"], len(MODES) - 1),
    }
