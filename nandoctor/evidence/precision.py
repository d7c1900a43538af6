"""Half precision: was it used, how near to its end, and what the GradScaler did."""

import math
from dataclasses import dataclass

import numpy as np

from ..trace.schema import DTYPES
from ..trace.trace import Rows, Trace
from . import fields
from .layers import graph_nodes
from .onset import Onset
from .series import EMPTY, Floats, Series, per_step

FLOAT16 = DTYPES.index("float16")
BFLOAT16 = DTYPES.index("bfloat16")
HALVES = (FLOAT16, BFLOAT16)
FLOAT16_MAX = 65504.0
MOSTLY = 0.5  # of the looks: a single overflow that nothing uses is no failure


@dataclass(frozen=True)
class Absorbed:
    """An Inf in float16 that was divided by, so that nothing behind it is bad."""

    share: float  # of the looks
    step: int
    op: str
    layer: str | None
    file: str | None
    line: int | None

    @property
    def mostly(self) -> bool:
        return self.share >= MOSTLY


@dataclass(frozen=True)
class Precision:
    float16: bool  # some activation or weight was stored in it
    bfloat16: bool
    autocast: str | None  # dtype of an enabled autocast
    scaler: bool
    scale_first: float | None
    scale_last: float | None
    skipped: int  # steps left out
    skipped_at_end: int  # of them in a row at the end
    headroom_bits: float | None  # log2(65504 / largest float16 value) at the last step before onset, E28
    headroom_slope: float | None  # bits a step; negative: running out
    loudest_layer: str | None  # whose float16 output was the largest then
    converts: bool = False  # the first graph turns one type into another
    absorbed: Absorbed | None = None


def gather(trace: Trace, onset: Onset) -> Precision:
    outputs = trace.rows("activation")
    half = outputs[(outputs["dtype"] == FLOAT16) & (outputs["mode"] == 0)]
    loud = np.maximum(np.abs(half["low"]), np.abs(half["high"]))
    seen = (half["step"] <= onset.failed) & (half["step"] >= onset.window[0]) & np.isfinite(loud)
    peaks = per_step(half["step"][seen], loud[seen], "max") if seen.any() else EMPTY
    bits = Series(peaks.steps, np.log2(FLOAT16_MAX / np.maximum(peaks.values, 1e-30)))
    before = bits.between(0, onset.failed)
    before = before if len(before) else bits
    done = trace.rows("step")["value"]
    finished = np.flatnonzero(done != 0)
    scales = trace.rows("loss_scale")["value"]
    weights = trace.rows("weight")["dtype"]
    used = [note for note in trace.notes_of("autocast") if fields.truth(note, "enabled")]
    return Precision(
        float16=bool(len(half) or (weights == FLOAT16).any()),
        bfloat16=bool((outputs["dtype"] == BFLOAT16).any() or (weights == BFLOAT16).any()),
        autocast=(fields.words(used[0], "dtype") or "").removeprefix("torch.") or None if used else None,
        scaler=len(trace.rows("scaler")) > 0 or len(scales) > 0,
        scale_first=float(scales[0]) if len(scales) else None,
        scale_last=float(scales[-1]) if len(scales) else None,
        skipped=int((done == 0).sum()),
        skipped_at_end=len(done) - (int(finished[-1]) + 1 if len(finished) else 0),
        headroom_bits=float(before.values[-1]) if len(before) else None,
        headroom_slope=_slope(before),
        loudest_layer=_loudest(trace, half[seen], loud[seen]),
        converts="ToCopyBackward0" in graph_nodes(trace),
        absorbed=_absorbed(trace),
    )


def _absorbed(trace: Trace) -> Absorbed | None:
    notes = trace.notes_of("absorbed")
    looks = fields.whole(notes[-1], "looks") if notes else None
    if not looks:
        return None
    note, place = notes[0], fields.mapping(notes[0], "place")
    return Absorbed(
        share=len(notes) / looks,
        step=fields.whole(note, "step") or 0,
        op=fields.words(note, "op") or "an operation",
        layer=fields.words(note, "layer"),
        file=fields.words(place, "file"),
        line=fields.whole(place, "line"),
    )


def _slope(bits: Series) -> float | None:
    if len(bits) < 3:
        return None
    x = bits.steps - bits.steps.mean()
    slope = float((x * (bits.values - bits.values.mean())).sum() / (x * x).sum())
    return slope if math.isfinite(slope) else None


def _loudest(trace: Trace, rows: Rows, loud: Floats) -> str | None:
    if len(rows) == 0:
        return None
    subject = trace.subjects.get(int(rows[int(np.argmax(loud))]["subject"]))
    return subject.name if subject else None
