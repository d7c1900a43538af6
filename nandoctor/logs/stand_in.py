"""A log's table as a trace in memory, so that remedies find lr, norms and epochs where they always look."""

from typing import Any

import numpy as np

from nandoctor.logs.alarms import NORM_HIGH, NORM_RAISED
from nandoctor.logs.table import Log
from nandoctor.trace.schema import NO_SHAPE
from nandoctor.trace.trace import Trace, dtype_of

CLIPPED_AT = {NORM_HIGH: 5.0, NORM_RAISED: 2.0}  # the ladder whose lines these are: docs/sources.md [nan-root-cause]
MOST_STEPS = 5_000_000  # a step number beyond it is an identifier
SUBJECT = 0


def trace_of(log: Log) -> Trace:
    """Losses, learning rates and gradient norms only: whatever else is asked for is absent, as in any short trace."""
    steps = _steps(log)
    count = int(steps.max()) + 1 if len(steps) else 0
    columns = {"loss": "train", "learning_rate": "lr", "gradient_norm": "norm"}
    held: dict[str, Any] = {
        kind: _rows(kind, log, log.known(name), log.column(name), steps) for kind, name in columns.items()
    }
    held["clip"] = _clips(log, steps)
    done: Any = np.zeros(count if len(log.known("train")) else 0, dtype_of("step"))
    done["step"], done["value"], done["epoch"] = np.arange(len(done)), 1, -1
    held["step"] = done
    return Trace(log.path, tuple(_notes(log)), lambda kind: held.get(kind, np.zeros(0, dtype_of(kind))))


def _steps(log: Log) -> np.ndarray[Any, np.dtype[np.int64]]:
    """A step for each row: the log's own numbers where they never fall, else the losses counted."""
    known = [row.step for row in log.rows if row.step is not None]
    told = len(known) >= len(log.known("train")) > 0
    if told and known[-1] < MOST_STEPS and all(a <= b for a, b in zip(known, known[1:], strict=False)):
        last, found = known[0], []
        for row in log.rows:
            last = row.step if row.step is not None else last
            found.append(last)
        return np.array(found, np.int64)
    counted = np.cumsum([row.train is not None for row in log.rows], dtype=np.int64)
    return np.maximum(counted - 1, 0)


def _rows(kind: str, log: Log, places: Any, values: Any, steps: Any) -> Any:
    rows: Any = np.zeros(len(places), dtype_of(kind))
    rows["order"], rows["step"], rows["batch"] = places, steps[places], steps[places]
    rows["epoch"] = [(log.epochs[place] or 0) - 1 for place in places]
    rows["subject"], rows["shape"], rows["value"] = SUBJECT, NO_SHAPE, values[places]
    return rows


def _clips(log: Log, steps: Any) -> Any:
    told = [(n, w) for n, w in log.warnings if w.what in CLIPPED_AT and w.norm is not None]
    rows: Any = np.zeros(len(told), dtype_of("clip"))
    rows["order"], rows["step"] = [n for n, _ in told], [steps[n] for n, _ in told]
    rows["value"], rows["max_norm"] = [w.norm for _, w in told], [CLIPPED_AT[w.what] for _, w in told]
    rows["shape"] = NO_SHAPE
    return rows


def _notes(log: Log) -> list[dict[str, Any]]:
    said = log.said
    signs = (("accelerate", said.accelerate), ("transformers.trainer", said.filtered))
    packages = [name for name, used in signs if used]
    packages += ["lightning"] if "Lightning" in log.kind else []
    found: list[dict[str, Any]] = [{"note": "header", "command": log.kind, "packages": packages}]
    if said.optimizer is not None:
        found.append({"note": "optimizer", "id": 0, "class": f"torch.optim.{said.optimizer}", "groups": []})
    if said.precision in ("fp16", "bf16"):
        dtype = {"fp16": "float16", "bf16": "bfloat16"}[said.precision]
        found.append({"note": "autocast", "step": 0, "enabled": True, "dtype": dtype})
    if said.crash is not None:
        found.append({"note": "exception", "type": said.crash.type, "message": said.crash.message, "frames": []})
    return found
