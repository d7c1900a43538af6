"""What half precision flushed to zero: gradients, and updates too small for the weights (E29)."""

from dataclasses import dataclass

import numpy as np

from ..trace.schema import DTYPES
from ..trace.trace import Rows, Trace
from .precision import HALVES
from .series import Floats, Steps


@dataclass(frozen=True)
class Underflow:
    half_gradients: int  # looks at gradients in half precision
    flushed: float | None  # subnormal elements / elements that are not zero, over all of them: median of looks
    zero_looks: float | None  # share of looks that found nothing but zeros
    worst_layer: str | None
    half_weights: bool
    unmoved_half: float | None  # of weights in half precision: elements with a gradient that did not move
    dtype: str | None


def gather(trace: Trace) -> Underflow | None:
    flush, unmoved = trace.rows("flush"), trace.rows("unmoved")
    if len(flush) == 0 and len(unmoved) == 0:
        return None
    nonzero = flush["of"] - flush["zeros"]
    with np.errstate(all="ignore"):
        small = np.where(nonzero > 0, flush["value"] / nonzero, np.nan)
    half = np.isin(unmoved["dtype"], HALVES)
    dtypes = sorted({DTYPES[int(d)] for d in (*flush["dtype"], *unmoved["dtype"][half])})
    return Underflow(
        half_gradients=len(flush),
        flushed=float(np.nanmedian(small)) if np.isfinite(small).any() else None,
        zero_looks=float((nonzero == 0).mean()) if len(flush) else None,
        worst_layer=_worst(trace, flush["subject"], np.where(np.isnan(small), 1.0, small)),
        half_weights=bool(half.any()),
        unmoved_half=_share(unmoved[half]),
        dtype=dtypes[0] if dtypes else None,
    )


def _share(rows: Rows) -> float | None:
    total = float(rows["of"].sum())
    return float(rows["value"].sum()) / total if total else None


def _worst(trace: Trace, subjects: Steps, shares: Floats) -> str | None:
    if len(subjects) == 0:
        return None
    means = {int(s): float(shares[subjects == s].mean()) for s in np.unique(subjects)}
    worst = max(means, key=lambda s: means[s])
    return trace.subjects[worst].name if worst in trace.subjects else None
