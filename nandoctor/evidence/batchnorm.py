"""How many values BatchNorm took its statistics from."""

from dataclasses import dataclass

import numpy as np

from ..trace.trace import Trace


@dataclass(frozen=True)
class BatchNorm:
    fewest: int  # values per channel in the smallest training batch, E8
    step: int
    layer: str
    usual: int  # median over all training batches


def gather(trace: Trace) -> BatchNorm | None:
    rows = trace.rows("batchnorm_count")
    rows = rows[(rows["mode"] == 0) & np.isfinite(rows["value"])]
    if len(rows) == 0:
        return None
    least = rows[int(np.argmin(rows["value"]))]
    subject = trace.subjects.get(int(least["subject"]))
    return BatchNorm(
        fewest=int(np.clip(least["value"], 0, 2**53)),
        step=int(least["step"]),
        layer=subject.name if subject else "",
        usual=int(np.clip(np.median(rows["value"]), 0, 2**53)),
    )
