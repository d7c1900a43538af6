"""Do batches come to hold more classes as a run goes on? A curriculum: its early batches are narrow by intent."""

import numpy as np

from ..trace.trace import Trace
from .sizes import elements

FEW = 8  # batches in a third of those that were read; labels in a batch
WIDER = 2.0  # times: a span of classes that doubles is no chance
MOST = 0.5  # of all classes so far: a sorted list is as narrow at its end as at its beginning


def widens(trace: Trace) -> bool:
    """The labels that a loss was indexed with span twice as many classes late as early, most of those seen by then."""
    rows = trace.rows("labels")
    names = [s.id for s in trace.subjects.values() if s.role != "loss" or str(s.name).startswith("NllLoss")]
    own = np.isin(rows["subject"], names) & (elements(trace, rows["shape"]) >= FEW) & (rows["low"] >= 0)
    own &= np.isfinite(rows["high"]) & (rows["mode"] == 0)
    low, high = rows["low"][own], rows["high"][own]
    third = len(low) // 3
    if third < FEW:
        return False
    early, late = float(np.median((high - low)[:third])), float(np.median((high - low)[-third:]))
    return late >= WIDER * early > 0 and late >= MOST * float(high.max() - low.min())
