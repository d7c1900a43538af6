"""The recording's own rows, the first ones and the recent ones, kept in memory as the trace that the judges read."""

import json
from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..trace.rows import SPOOL_ROW, rows_in_memory, rows_of, survey
from ..trace.schema import ROW
from ..trace.trace import Trace

FIRST = 8_000 * ROW.size  # bytes: how the run began; judges ask for its first loss and weights
RECENT = 40_000 * ROW.size  # and the last rows: 20 steps before an onset are what dynamics are read from
HAPPENED = ("incident", "exception", "absorbed")  # notes that belong to a moment; the others describe the program


class Window:
    def __init__(self) -> None:
        self.notes: list[dict[str, Any]] = []
        self.first: list[bytes] = []
        self.recent: deque[bytes] = deque()
        self.size_first = self.size_recent = 0
        self.base = 0  # the step that the judges see as step 0
        self.incidents = 0

    # --- what the recorder tells -----------------------------------------------------------------------------
    def rows(self, packed: bytes) -> None:
        if not self.recent and self.size_first < FIRST:
            self.first.append(packed)
            self.size_first += len(packed)
            return
        self.recent.append(packed)
        self.size_recent += len(packed)
        while self.size_recent > RECENT:
            self.size_recent -= len(self.recent.popleft())

    def note(self, kind: str, fields: Mapping[str, Any]) -> None:
        if kind == "treatment":
            return
        self.incidents += kind == "incident"
        if kind != "line":
            self.notes.append({"note": kind, **fields})

    # --- what the doctor asks --------------------------------------------------------------------------------
    def forget(self, step: int) -> None:
        """The run begins anew at this step: what was before it is no evidence any more."""
        self.first.clear()
        self.recent.clear()
        self.size_first = self.size_recent = 0
        self.notes = [note for note in self.notes if note["note"] not in HAPPENED]
        self.base = step

    def trace(self) -> Trace:
        rows = np.frombuffer(b"".join((*self.first, *self.recent)), SPOOL_ROW)
        rows = rows[rows["step"] >= self.base].copy()
        rows["step"] -= self.base
        source = rows_in_memory(rows)
        seen = survey(source)
        latest = {note.get("id"): note for note in self.notes if note["note"] == "optimizer"}
        known = [n for n in self.notes if n["note"] != "optimizer" or not self.base or n is latest[n.get("id")]]
        notes = tuple(_as_read(note, self.base) for note in known)  # settings that a treatment has changed are history
        return Trace("", notes, lambda kind: rows_of(kind, source, seen), alive=True)


def _as_read(note: dict[str, Any], base: int) -> Mapping[str, Any]:
    """As a spool gives it back: strings, numbers, lists; steps counted from the base."""
    found: dict[str, Any] = json.loads(json.dumps(note, default=str)) if note["note"] in HAPPENED else dict(note)
    if isinstance(found.get("step"), int):
        found["step"] = max(0, found["step"] - base)
    return found
