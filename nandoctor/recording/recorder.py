"""The recorder: the step clock, the rows not yet written, and the spool they go to."""

import os
import sys
import threading
import time
from typing import Any

import torch
from torch import Tensor

from ..trace.schema import BAD, DTYPES, KIND, MAX_CALL, MODES, NO_SHAPE, ROW, VERSION
from ..trace.spool import SpoolWriter, free_output
from .governor import Governor
from .guard import Guard
from .incident import Incident
from .settings import Settings
from .stats import Stats, on_device

DTYPE_ID = {getattr(torch, name): number for number, name in enumerate(DTYPES) if hasattr(torch, name)}
OTHER_DTYPE = DTYPES.index("other")
FRAMEWORKS = ("accelerate", "lightning", "pytorch_lightning", "transformers.trainer", "deepspeed")
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
        self._rows: list[tuple[Any, ...]] = []
        self._waiting: list[tuple[int, Tensor]] = []  # place in _rows, three numbers still on an accelerator
        self._early_notes: list[tuple[str, dict[str, Any]]] = []
        self._subjects: dict[tuple[str, ...], int] = {}
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
            (self.step, subject, shape, min(call, MAX_CALL), KIND[kind], dtype, flags, MODES.index(mode), *stats)
        )
        if len(self._rows) >= MAX_PENDING:
            self.flush(final=False)

    def value(self, kind: str, subject: int, value: float, flags: int = 0, second: float = 0.0) -> None:
        """One row of a scalar kind: `second` is its middle number (max_norm, found_inf)."""
        self._rows.append((self.step, subject, NO_SHAPE, 0, KIND[kind], 0, flags, 0, 0.0, second, value))
        if len(self._rows) >= MAX_PENDING:
            self.flush(final=False)

    def rows(self, rows: list[tuple[Any, ...]]) -> None:
        """Rows that were put together already, in the order of trace.schema.ROW_FIELDS."""
        self._rows.extend(rows)

    def add_later(
        self, kind: str, subject: int, tensor: Tensor, flags: int = 0, mode: str = "train", call: int = 0
    ) -> None:
        """A row of a tensor on an accelerator: its numbers are fetched with all others at the end of the step."""
        numbers = on_device(tensor)
        self.add(kind, subject, (0.0, 0.0, 0.0), tensor, flags, mode, call)
        if self._rows:  # not just written
            self._waiting.append((len(self._rows) - 1, numbers))

    def shape(self, shape: torch.Size) -> int:
        key = tuple(shape)
        number = self._shapes.get(key)
        if number is None:
            number = len(self._shapes)
            if number >= NO_SHAPE:
                return NO_SHAPE
            self._shapes[key] = number
            count = 1
            for size in key:
                count *= size
            self.note("shape", id=number, shape=list(key), count=count)
        return number

    def subject(self, name: str, role: str, module: str | None = None, tensor: str | None = None, key: str = "") -> int:
        """The id of what a row measures. `key` tells apart equal names; a later name for the same key renames it."""
        identity = (key or name, role, module or "", tensor or "")
        number = self._subjects.get(identity)
        if number is None:
            number = self._subjects[identity] = len(self._subjects)
            self.note("subject", id=number, name=name, role=role, module=module, tensor=tensor)
        return number

    # --- the clock -------------------------------------------------------------------------------------------
    def backward_begins(self, loss_as_given: float, divisor: float = 0.0) -> None:
        self.claim()
        self.value("backward", self.subject("backward", "call"), loss_as_given, second=divisor)
        self.batch += 1
        self.micro += 1

    def step_ends(self, skipped: bool = False) -> None:
        self.claim()
        self.value("elapsed", self.subject("elapsed", "call"), time.monotonic() - self._started)
        self.value("step", self.subject("step", "call"), 0.0 if skipped else 1.0)
        self.step += 1
        self.micro = 0
        self.flush()
        self.governor.step_ends(self.step)

    # --- notes -----------------------------------------------------------------------------------------------
    def note(self, kind: str, /, **fields: Any) -> None:
        if self.tap is not None:
            self.tap.note(kind, fields)
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
        if text not in self._said:
            self._said.add(text)
            self.note("unseen", step=self.step, text=text)

    def probe_failed(self, probe: str, error: str) -> None:
        self.note("probe_failed", probe=probe, step=self.step, error=error)
        print(f"nandoctor: the {probe} probe failed and is off from here on ({error})", file=sys.stderr)

    # --- the spool -------------------------------------------------------------------------------------------
    def claim(self) -> None:
        """Something trains here: take an output name and begin to write."""
        if self.writer is not None:
            return
        with self._claiming:  # several threads may train
            if self.writer is not None:
                return
            try:
                output = free_output(self.settings.output)
                writer = SpoolWriter(output)
            except OSError as error:
                self._cannot_write(error)
                return
            writer.note("header", version=VERSION, output=output, **self.settings.header())
            for kind, fields in self._early_notes:
                writer.note(kind, **fields)
            self._early_notes.clear()
            self.writer = writer

    def _cannot_write(self, error: OSError) -> None:
        """The training goes on without us; the parent is told by a mark."""
        self.guard.on = False
        print(f"nandoctor: cannot write the trace: {error}", file=sys.stderr)
        marks = os.environ.get("NANDOCTOR_MARKS")
        if marks and os.path.isdir(marks):
            with open(os.path.join(marks, "failed"), "a", encoding="utf-8"):
                pass

    def flush(self, final: bool = True) -> None:
        """Write the pending rows. Nothing has a name yet before something trains: then they wait."""
        if self.writer is None:
            if len(self._rows) > MAX_UNCLAIMED:
                self._drop_unclaimed()
            return
        self._fetch()
        rows, self._rows = self._rows, []
        packed = b"".join([ROW.pack(*row) for row in rows])
        if self.tap is not None:
            self.tap.rows(packed)
        if not (self.governor.series or self.governor.whole) and not any(row[6] & BAD for row in rows):
            return  # the trace has come near its size: the series of this step are left out
        self.governor.written(len(rows))
        self.writer.rows(packed)

    def _drop_unclaimed(self) -> None:
        half = MAX_UNCLAIMED // 2
        del self._rows[:half]
        self._waiting = [(place - half, numbers) for place, numbers in self._waiting if place >= half]

    def _fetch(self) -> None:
        """Bring the numbers that wait on an accelerator here, in one transfer."""
        waiting, self._waiting = self._waiting, []
        by_device: dict[torch.device, list[tuple[int, Tensor]]] = {}
        for place, numbers in waiting:
            by_device.setdefault(numbers.device, []).append((place, numbers))
        for pairs in by_device.values():
            fetched = torch.stack([numbers for _, numbers in pairs]).tolist()
            for (place, _), (low, high, norm) in zip(pairs, fetched, strict=True):
                row = self._rows[place]
                stats = Stats(low, high, norm)
                flags = row[6] | (BAD if stats.bad else 0)
                self._rows[place] = (*row[:6], flags, row[7], low, high, norm)

    def nonfinite_detail(self, subject: int, tensor: Tensor, mode: str = "train", call: int = 0) -> tuple[int, str]:
        """A row with the counts of NaN and Inf and the flat index of the first; returns (index, kind of the first)."""
        flat = tensor.detach().reshape(-1)
        nans, infs = torch.isnan(flat), torch.isinf(flat)
        first = int((nans | infs).to(torch.uint8).argmax().item())
        self.add(
            "nonfinite", subject, (float(nans.sum()), float(infs.sum()), float(first)), tensor, BAD, mode, call
        )
        value = flat[first].item()
        return first, "nan" if value != value else ("inf" if value > 0 else "-inf")

    def close(self) -> None:
        if self.writer is not None:
            self.flush()
            self.note("cost", **self.governor.account())
        self.guard.on = False


def device_name() -> str:
    """Of the GPU that is used, if one is: the question alone must not initialise CUDA."""
    in_use = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return torch.cuda.get_device_name() if in_use else "cpu"


def process_header() -> dict[str, Any]:
    """What a recording says of the process it runs in. No environment variable is stored."""
    # not platform.platform(): it starts a process and touches the warnings' filters
    return {
        "torch": torch.__version__,
        "python": sys.version.partition(" ")[0],
        "platform": "-".join(os.uname()[::2]) if hasattr(os, "uname") else sys.platform,
        "threads": torch.get_num_threads(),
        "cuda": torch.version.cuda,
        "packages": [name for name in FRAMEWORKS if name in sys.modules],
        "device": device_name(),
        "pid": os.getpid(),
        "cwd": os.getcwd(),
        "started": time.time(),
    }



