"""A program that trains one model and then another: the last training, as a trace of its own."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ..trace.trace import Records, Trace
from . import fields

FEW = 40  # steps: fewer say nothing of progress


def last(trace: Trace) -> tuple[int, Trace] | None:
    """From the step on with which an optimizer took over for good that holds none of the parameters moved before it: a
    student after its teacher, a head after its features. Its first step is step 0 of the trace that is returned.
    """
    rows = trace.rows("gradient_norm")  # one for each step of each optimizer
    turns = np.flatnonzero(np.diff(rows["subject"])) + 1
    if len(turns) == 0 or len(turns) != len(np.unique(rows["subject"])) - 1:
        return None
    start = int(rows["step"][turns[-1]])
    if int(rows["step"][-1]) - start < FEW:
        return None
    notes = trace.notes_of("optimizer")
    later = [note for note in notes if (fields.whole(note, "step") or 0) >= start]
    before = {name for note in notes if note not in later for name in _held(note)}
    if len(later) != 1 or not _held(later[0]) or _held(later[0]) & before:
        return None

    def load(kind: str) -> Records:
        found = trace.rows(kind)
        own = np.array(found[found["step"] >= start])
        own["step"] -= start
        return own

    kept = tuple(note for note in trace.notes if note.get("note") not in ("optimizer", "closed") or note in later)
    return start, replace(trace, notes=kept, load=load, _cache={})


def _held(note: Mapping[str, Any]) -> set[str]:
    groups = (group for group in fields.items(note, "groups") if isinstance(group, Mapping))
    return {str(name) for group in groups for name in fields.items(group, "parameters")}
