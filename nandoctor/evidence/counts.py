"""Targets of a Poisson likelihood that are below 0: no counts, and a loss without a floor."""

from ..trace.trace import Trace
from . import fields


def gather(trace: Trace) -> float | None:
    """The least that was seen."""
    lows = []
    for note in trace.notes_of("counts"):
        try:
            lows.append(float(fields.words(note, "low") or ""))
        except ValueError:
            continue
    return min((low for low in lows if low < 0), default=None)
