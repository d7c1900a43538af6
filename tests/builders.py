"""Traces made by hand for tests: `trace(loss="2.3 2.1 inf nan", lr=0.1)` reads like the chart a user sees.

`Run` takes single rows and notes and gives a Trace, a real spool, or a finished file.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nandoctor.trace.recover import finish
from nandoctor.trace.rows import SPOOL_ROW, rows_in_memory, rows_of, survey
from nandoctor.trace.schema import BAD, DTYPES, KIND, KINDS, MODES, NO_SHAPE, ROW, TENSOR_KINDS, VERSION
from nandoctor.trace.spool import SUFFIX, SpoolWriter
from nandoctor.trace.trace import Trace

Series = str | float | Sequence[float]

HEADER = {
    "version": VERSION,
    "nandoctor": "0.1.0",
    "torch": "2.13.0",
    "python": "3.11.7",
    "platform": "Linux-x86_64",
    "threads": 2,
    "command": ["python", "train.py"],
    "cwd": "/home/user",
    "pid": 4242,
    "rank": 0,
    "world": 1,
    "started": 1_700_000_000.0,
    "output": "run.parquet",
}


class Run:
    """Rows and notes in the order in which they are added; the step clock runs as in a recording."""

    def __init__(self, **header: Any) -> None:
        self.notes: list[dict[str, Any]] = [{"note": "header", **HEADER, **header}]
        self.packed: list[bytes] = []
        self.step = 0
        self._subjects: dict[tuple[Any, ...], int] = {}
        self._shapes: dict[tuple[int, ...], int] = {}

    def note(self, kind: str, /, **fields: Any) -> None:
        self.notes.append({"note": kind, **fields})

    def subject(self, name: str, role: str = "module", module: str | None = None, tensor: str | None = None) -> int:
        key = (name, role, module, tensor)
        if key not in self._subjects:
            self._subjects[key] = len(self._subjects)
            self.note("subject", id=self._subjects[key], name=name, role=role, module=module, tensor=tensor)
        return self._subjects[key]

    def shape(self, *sizes: int) -> int:
        if sizes not in self._shapes:
            self._shapes[sizes] = len(self._shapes)
            self.note("shape", id=self._shapes[sizes], shape=list(sizes), count=math.prod(sizes))
        return self._shapes[sizes]

    def row(
        self,
        kind: str,
        name: str = "",
        role: str = "module",
        *,
        module: str | None = None,
        tensor: str | None = None,
        shape: tuple[int, ...] | None = None,
        dtype: str = "",
        flags: int = 0,
        mode: str = "train",
        call: int = 0,
        **numbers: float,
    ) -> None:
        """One row; `numbers` by the names that the kind gives them. A `step` row moves the clock on."""
        unknown = set(numbers) - set(KINDS[kind])
        assert not unknown, f"{kind} has no {unknown}"
        self.packed.append(
            ROW.pack(
                self.step,
                self.subject(name or kind, role, module, tensor),
                NO_SHAPE if shape is None else self.shape(*shape),
                call,
                KIND[kind],
                DTYPES.index(dtype),
                flags,
                MODES.index(mode),
                *(numbers.get(number, 0.0) if number else 0.0 for number in KINDS[kind]),
            )
        )
        if kind == "step":
            self.step += 1

    def tensor(
        self,
        kind: str,
        name: str,
        size: float,
        shape: tuple[int, ...] = (32, 10),
        flags: int = 0,
        dtype: str = "float32",
        **more: Any,
    ) -> None:
        """A row of a tensor kind whose largest element is `size`; NaN and Inf make it bad."""
        assert kind in TENSOR_KINDS
        low = size if math.isnan(size) else (0.0 if math.isinf(size) else -size)
        norm = size * math.sqrt(math.prod(shape) / 3)  # of a uniform distribution up to `size`
        flags |= 0 if math.isfinite(size) else BAD
        self.row(kind, name, shape=shape, dtype=dtype, flags=flags, low=low, high=size, norm=norm, **more)

    def rows(self) -> Any:
        return np.frombuffer(b"".join(self.packed), SPOOL_ROW)

    def trace(self, path: str = "run.parquet") -> Trace:
        source = rows_in_memory(self.rows())
        seen = survey(source)
        return Trace(path, tuple(self.notes), lambda kind: rows_of(kind, source, seen))

    def spool(self, output: Path) -> Path:
        """A real spool beside `output`, whose writer has ended."""
        os.mkdir(f"{output}{SUFFIX}")
        writer = SpoolWriter(str(output))
        for note in self.notes:
            writer.note(note["note"], **{key: value for key, value in note.items() if key != "note"})
        writer.rows(b"".join(self.packed))
        writer.close()
        return Path(f"{output}{SUFFIX}")

    def file(self, output: Path) -> Path:
        written = finish(self.spool(output))
        assert written is not None, "nothing trains in this run"
        return written


def series(values: Series, steps: int) -> list[float]:
    """ "2.3 inf nan" -> one number a step; what is shorter goes on with its last value."""
    if isinstance(values, str):
        values = [float(word) for word in values.split()]
    numbers = [float(values)] if isinstance(values, int | float) else [float(value) for value in values]
    return [numbers[min(step, len(numbers) - 1)] for step in range(steps)]


def run(
    *,
    steps: int | None = None,
    loss: Series = 2.3,
    lr: Series = 0.1,
    gradient_norm: Series | None = None,
    activations: Mapping[str, Series] | None = None,
    output_gradients: Mapping[str, Series] | None = None,
    gradients: Mapping[str, Series] | None = None,
    weights: Mapping[str, Series] | None = None,
    updates: Mapping[str, Series] | None = None,
    batch: Series | None = None,
    clip: float | None = None,
    loss_scale: Series | None = None,
    done: Series = 1.0,
    epoch_length: int | None = None,
    optimizer: str = "SGD",
    dtype: str = "float32",
    shape: tuple[int, ...] = (32, 10),
    notes: Sequence[Mapping[str, Any]] = (),
    exit_code: int | None = 0,
) -> Run:
    """A training, step by step in the order of a real one. Tensors are given by their largest element."""
    tensors = [
        ("activation", activations or {}),
        ("output_gradient", output_gradients or {}),
        ("parameter_gradient", gradients or {}),
        ("update", updates or {}),
        ("weight", weights or {}),
    ]
    given = [
        loss,
        lr,
        gradient_norm,
        batch,
        loss_scale,
        done,
        *(v for _, named in tensors for v in named.values()),
    ]
    lengths = [len(values.split() if isinstance(values, str) else values) for values in given if _is_long(values)]
    count = steps if steps is not None else max(lengths, default=1)
    made = Run()
    made.note("optimizer", id=0, name="optimizer", **{"class": optimizer}, groups=[{"lr": series(lr, 1)[0]}], step=0)
    at = {kind: {name: series(values, count) for name, values in named.items()} for kind, named in tensors}
    scalar = {
        name: series(values, count)
        for name, values in (
            ("loss", loss),
            ("lr", lr),
            ("done", done),
            ("norm", gradient_norm),
            ("batch", batch),
            ("scale", loss_scale),
        )
        if values is not None
    }
    for step in range(count):
        if step % (epoch_length or count) == 0:
            made.row("epoch", "loader", "loader")
        if "batch" in scalar:
            made.tensor("batch", "0", scalar["batch"][step], role="batch", shape=shape)
        for name, values in at["activation"].items():
            made.tensor("activation", name, values[step], shape, dtype=dtype)
        made.row("loss", "loss", "loss", value=scalar["loss"][step], dtype="float32")
        made.row("backward", "backward", "call", value=scalar["loss"][step])
        for name, values in reversed(at["output_gradient"].items()):
            made.tensor("output_gradient", name, values[step], shape, dtype=dtype)
        for name, values in at["parameter_gradient"].items():
            made.tensor("parameter_gradient", name, values[step], shape, role="parameter", dtype=dtype)
        if clip is not None and "norm" in scalar:
            made.row("clip", "clip_grad_norm_", "call", max_norm=clip, value=scalar["norm"][step])
        if "norm" in scalar:
            norm = scalar["norm"][step]
            made.row("gradient_norm", "optimizer", "optimizer", value=norm if clip is None else min(norm, clip))
        made.row("learning_rate", "optimizer.0", "optimizer", value=scalar["lr"][step])
        for kind in ("update", "weight"):
            for name, values in at[kind].items():
                made.tensor(kind, name, values[step], shape, role="parameter", dtype=dtype)
        made.row("elapsed", "elapsed", "call", value=0.01 * (step + 1))
        made.row("step", "step", "call", value=scalar["done"][step])
        if "scale" in scalar:
            made.row(
                "loss_scale",
                "scaler",
                "scaler",
                value=scalar["scale"][step],
                found_inf=1 - scalar["done"][step],
            )
    made.notes += [dict(note) for note in notes]
    if exit_code is not None:
        made.note("end", exit_code=exit_code)
    return made


def trace(**training: Any) -> Trace:
    """run(...) as a Trace: trace(loss="2.3 2.1 inf nan", lr=0.1, activations={"fc1": "1 2 4 inf"})."""
    return run(**training).trace()


def _is_long(values: Series | None) -> bool:
    return isinstance(values, str) or (values is not None and not isinstance(values, int | float))
