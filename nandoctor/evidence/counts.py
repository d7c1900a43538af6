"""Targets of a Poisson likelihood that are below 0: no counts, and a loss without a floor."""

from ..trace.trace import Trace
from . import fields


def gather(trace: Trace) -> float | None:
    """The least that was seen."""
    lows = [fields.number(note, "low") for note in trace.notes_of("counts")]
    return min((low for low in lows if low is not None and low < 0), default=None)
