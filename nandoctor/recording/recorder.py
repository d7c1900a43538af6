"""The recorder: the step clock, the rows not yet written, and the spool they go to."""

import math
import os
import struct
import threading
import time
from collections.abc import Callable
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from ..trace.schema import AT_FLAGS, BAD, DTYPES, KIND, MAX_CALL, MODES, NO_SHAPE, ROW, VERSION
from ..trace.spool import SpoolWriter
from .flight import GRADIENT_NORM, Flight, Waiting, depart, gradient_norms
from .governor import Governor
from .guard import Guard
from .incident import Incident
from .ranks import claimed
from .settings import Settings
from .stats import Stats, kernel, located, on_device
from .voice import say

DTYPE_ID = {getattr(torch, name): number for number, name in enumerate(DTYPES) if hasattr(torch, name)}
pack = ROW.pack
PAIR = struct.Struct(ROW.format + ROW.format[1:])  # two rows
LOSS, BACKWARD, ELAPSED, STEP = (KIND[name] for name in ("loss", "backward", "elapsed", "step"))
MODE = {mode: number for number, mode in enumerate(MODES)}
OTHER_DTYPE = DTYPES.index("other")
LEXICON = ("subject", "shape", "model", "optimizer", "parallel", "unseen")
MAX_PENDING = 4096  # rows: an evaluation loop of many batches is written in between, too
MAX_UNCLAIMED = 100_000  # rows kept while nothing has trained yet: a program that only evaluates writes nothing


class Recorder:
    """Add rows and notes; they reach the kernel at the end of each step, so that a kill loses at most one step."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.guard = Guard(self.probe_failed)
        self.governor = Governor(settings, lambda: self.guard.spent)
        self.step = 0  # optimizer steps that ended
        self.batch = 0  # backward calls so far
        self.micro = 0  # backward calls since the last step
        self.epoch = -1  # iterations begun over a loader
        self.writer: SpoolWriter | None = None
        self._rows: list[bytes] = []  # packed, one or several together
        self._waiting: Waiting = []  # places in _rows, three numbers each that are still on an accelerator
        self._flight: Flight | None = None  # rows of an earlier flush whose numbers are on their way
        self.late: Callable[[int], None] | None = None  # told the step whose gradients turn out not to be finite
        self._early_notes: list[tuple[str, dict[str, Any]]] = []
        self._lexicon: list[tuple[str, dict[str, Any]]] = []  # what rows refer to: a forked process writes it again
        self._subjects: dict[tuple[str, str, str, str], int] = {}
        self._calls: dict[str, int] = {}
        self._by_key: dict[str, tuple[str, str, str, str]] = {}
        self._shapes: dict[tuple[int, ...], int] = {}
        self._started = time.monotonic()
        self._claiming = threading.Lock()
        self._said: set[str] = set()
        self.tap: Any = None  # active mode reads along: treat/window.py

    # --- rows ------------------------------------------------------------------------------------------------
    def add(
        self, kind: str, subject: int, stats: Stats | tuple[float, float, float], like: Tensor | None = None,
        flags: int = 0, mode: str = "train", call: int = 0,
    ) -> None:  # fmt: skip
        """One row. `like` gives shape and dtype. The BAD flag of a tensor row is the caller's, from exact ends."""
        shape = NO_SHAPE if like is None else self.shape(like.shape)
        dtype = 0 if like is None else DTYPE_ID.get(like.dtype, OTHER_DTYPE)
        self._rows.append(
            pack(self.step, subject, shape, min(call, MAX_CALL), KIND[kind], dtype, flags, MODE[mode], *stats)
        )
        if len(self._rows) >= MAX_PENDING:
            self.flush(final=False)

    def value(self, kind: str, subject: int, value: float, flags: int = 0, second: float = 0.0) -> None:
        """One row of a scalar kind: `second` is its middle number (max_norm, found_inf)."""
        self._rows.append(pack(self.step, subject, NO_SHAPE, 0, KIND[kind], 0, flags, 0, 0.0, second, value))
        if len(self._rows) >= MAX_PENDING:
            self.flush(final=False)

    def packed(self, rows: bytes) -> None:
        """Rows as they will be written; none of them is BAD."""
        self._rows.append(rows)

    def add_later(
        self, kind: str, subject: int, tensor: Tensor, flags: int = 0, mode: str = "train", call: int = 0
    ) -> None:
        """A row of a tensor on an accelerator: its numbers are fetched with all others at the end of the step."""
        numbers = on_device(tensor)
        self.add(kind, subject, (0.0, 0.0, 0.0), tensor, flags, mode, call)
        if self._rows:  # not just written
            self._waiting.append(([len(self._rows) - 1], numbers.unsqueeze(0)))

    def rows_later(self, rows: list[bytes], numbers: Tensor) -> None:
        """Rows that were packed already; their three numbers each, [rows, 3], are still on an accelerator."""
        begin = len(self._rows)
        self._rows.extend(rows)
        self._waiting.append((list(range(begin, begin + len(rows))), numbers))

    def shape(self, shape: torch.Size) -> int:
        number = self._shapes.get(shape)
        if number is None:
            key = tuple(shape)
            number = len(self._shapes)
            if number >= NO_SHAPE:
                return NO_SHAPE
            self._shapes[key] = number
            self.note("shape", id=number, shape=list(key), count=math.prod(key))
        return number

    def subject(self, name: str, role: str, module: str | None = None, tensor: str | None = None, key: str = "") -> int:
        """The id of what a row measures. `key` tells apart equal names; a later name for the same key renames it."""
        identity = (key or name, role, module or "", tensor or "")
        number = self._subjects.get(identity)
        if number is None:
            number = self._subjects[identity] = len(self._subjects)
            self._by_key[identity[0]] = identity
            self.note("subject", id=number, name=name, role=role, module=module, tensor=tensor)
        return number

    def call(self, name: str, role: str = "call") -> int:
        """The id of what happens at every step: loss, backward, step."""
        number = self._calls.get(name)
        if number is None:
            number = self._calls[name] = self.subject(name, role)
        return number

    def rename(self, key: str, name: str) -> None:
        """Another model came to be known: from here on, and for the rows before, this is called so."""
        identity = self._by_key.get(key)
        if identity is not None:
            _, role, module, tensor = identity
            number = self._subjects[identity]
            self.note("subject", id=number, name=name, role=role, module=module or None, tensor=tensor or None)

    # --- the clock -------------------------------------------------------------------------------------------
    def backward_begins(self, loss: float, as_given: float, divisor: float = 0.0) -> None:
        if self.writer is None:
            self.claim()
        loss_of, backward = self.call("loss", "loss"), self.call("backward")
        self._rows.append(PAIR.pack(
            self.step, loss_of, NO_SHAPE, 0, LOSS, 0, 0, 0, 0.0, 0.0, loss,
            self.step, backward, NO_SHAPE, 0, BACKWARD, 0, 0, 0, 0.0, divisor, as_given,
        ))  # fmt: skip
        if len(self._rows) >= MAX_PENDING:
            self.flush(final=False)
        self.batch += 1
        self.micro += 1

    def step_ends(self, skipped: bool = False) -> None:
        if self.writer is None:
            self.claim()
        clock, ended = self.call("elapsed"), self.call("step")
        self._rows.append(PAIR.pack(
            self.step, clock, NO_SHAPE, 0, ELAPSED, 0, 0, 0, 0.0, 0.0, time.monotonic() - self._started,
            self.step, ended, NO_SHAPE, 0, STEP, 0, 0, 0, 0.0, 0.0, 0.0 if skipped else 1.0,
        ))  # fmt: skip
        self.step += 1
        self.micro = 0
        self.flush(final=False)
        self.governor.step_ends(self.step)

    # --- notes -----------------------------------------------------------------------------------------------
    def note(self, kind: str, /, **fields: Any) -> None:
        if self.tap is not None:
            self.tap.note(kind, fields)
        if kind in LEXICON:
            self._lexicon.append((kind, fields))
        if self.writer is None:
            self._early_notes.append((kind, fields))
        else:
            self.writer.note(kind, **fields)

    def incident(self, incident: Incident) -> None:
        self.claim()
        self.governor.alarm()
        self.flush()
        self.note("incident", **incident.as_note())

    def unseen(self, text: str) -> None:
        """Say once what could not be observed."""
        self.said("unseen", text=text)

    def said(self, kind: str, **fields: str | float) -> None:
        """A note that is written once."""
        if (text := f"{kind} {fields}") not in self._said:
            self._said.add(text)
            self.note(kind, step=self.step, **fields)

    def probe_failed(self, probe: str, error: str) -> None:
        self.note("probe_failed", probe=probe, step=self.step, error=error)
        say(f"the {probe} probe failed and is off from here on ({error})")

    # --- the spool -------------------------------------------------------------------------------------------
    def claim(self) -> None:
        """Something trains here: take an output name and begin to write."""
        if self.writer is not None:
            return
        with self._claiming:  # several threads may train
            if self.writer is not None:
                return
            header = self.settings.header()
            try:
                output = claimed(self.settings.output, self.settings.session)
                first = chain([("header", {"version": VERSION, "output": output, **header})], self._early_notes)
                writer = SpoolWriter(output, getattr(kernel, "append", None), first)
            except OSError as error:
                self._cannot_write(error)
                return
            self._early_notes.clear()
            self.writer = writer

    def _cannot_write(self, error: OSError) -> None:
        """The training goes on without us; the parent is told by a mark."""
        self.guard.on = False
        say(f"cannot write the trace: {error}")
        marks = os.environ.get("NANDOCTOR_MARKS")
        if marks and os.path.isdir(marks):
            with open(os.path.join(marks, "failed"), "a", encoding="utf-8"):
                pass

    def flush(self, final: bool = True) -> None:
        """Write the pending rows. Nothing has a name yet before something trains: then they wait.

        Not final: those with numbers on an accelerator go on their way, and are written with the next.
        """
        if self.writer is None:
            if len(self._rows) > MAX_UNCLAIMED:
                self._drop_unclaimed()
            return
        self.land()
        rows, self._rows = self._rows, []
        waiting, self._waiting = self._waiting, []
        if waiting:
            self._flight = depart(rows, waiting)
            if final:
                self.land()
        else:
            self._write(rows)

    def _drop_unclaimed(self) -> None:
        half = MAX_UNCLAIMED // 2
        del self._rows[:half]
        shifted = [([place - half for place in places], numbers) for places, numbers in self._waiting]
        self._waiting = [part for part in shifted if part[0][0] >= 0]

    def land(self) -> None:
        """Write what was still on its way from an accelerator."""
        if self._flight is None:
            return
        flight, self._flight = self._flight, None
        rows = flight.landed()
        self._write(rows)
        for kind, step, norm in gradient_norms(rows):
            if kind == GRADIENT_NORM:
                self.governor.gradient(norm)
            elif self.late is not None and not math.isfinite(norm):
                late, self.late = self.late, None  # once: what follows is its consequence
                late(step)

    def _write(self, rows: list[bytes]) -> None:
        assert self.writer is not None
        packed = b"".join(rows)
        if self.tap is not None:
            self.tap.rows(packed)
        governor = self.governor
        if not (governor.series or governor.whole) and not any(row[AT_FLAGS] & BAD for row in rows):
            return  # the trace has come near its size: the series of this step are left out
        governor.written(len(packed) // ROW.size)
        self.writer.rows(packed)
        if self.writer.lost is not None:
            self.guard.on = False  # the disk is full: the training goes on alone

    def nonfinite_detail(self, subject: int, tensor: Tensor, mode: str = "train", call: int = 0) -> tuple[int, str]:
        """A row with the counts of NaN and Inf and the flat index of the first; returns (index, kind of the first)."""
        nans, infs, first, kind = located(tensor)
        self.add("nonfinite", subject, (nans, infs, float(first)), tensor, BAD, mode, call)
        return first, kind

    def begins_anew(self) -> None:
        """In a forked process: what was recorded so far is its parent's, names and shapes serve on."""
        self.step = self.batch = self.micro = 0
        self.epoch = -1
        self.guard.spent = 0.0
        self.governor.begins_anew()
        self.writer = None
        self._rows, self._waiting, self._flight = [], [], None
        self._early_notes = list(self._lexicon)
        self._started = time.monotonic()
        self._claiming = threading.Lock()

    def close(self) -> None:
        if self.writer is not None:
            self.flush()
            self.note("closed", step=self.step)
            self.note("cost", **self.governor.account())
        self.guard.on = False
