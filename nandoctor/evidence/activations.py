"""How the forward pass scales what it is given: at the first step, and before onset."""

import math
from dataclasses import dataclass

import numpy as np

from ..trace.schema import NO_GRAD
from ..trace.trace import Rows, Trace
from .layers import classes
from .onset import Onset
from .series import Floats, median, per_step
from .sizes import WHOLE, elements

TINY = 1e-12
AGAIN = 3  # steps
RECURRENT = ("RNN", "LSTM", "GRU")


@dataclass(frozen=True)
class Activations:
    input_rms: float | None  # of the root module's inputs in the first forward pass
    first_rms: float | None  # the largest rms of a leaf module's output in that pass
    first_layer: str | None  # that module
    amplification: float | None  # first_rms / the larger of input_rms and 1, E23
    gain_per_layer: float | None  # geometric mean of rms(h_l) / rms(h_l-1) in the first pass
    layers: int
    absmax_before: float | None  # the largest absolute value before onset
    absmax_layer: str | None
    loudness_at_onset: float | None  # largest value at onset / its median over the steps before
    played: bool = False  # called in training mode without a graph, again and again: to act, not to learn
    unrolled: int = 1  # calls of one and the same module in the first forward pass


def gather(trace: Trace, onset: Onset) -> Activations | None:
    rows = trace.rows("activation")
    rows = rows[rows["mode"] == 0]
    if len(rows) == 0:
        return None
    first = rows[(rows["step"] == rows["step"][0]) & (rows["micro"] == rows["micro"][0])]
    rms = _rms(trace, first)
    given = trace.rows("input")
    given = given[~np.isin(given["dtype"], WHOLE)]  # a table is looked up by them, nothing is multiplied
    given_rms = _rms(trace, given[given["step"] == rows["step"][0]])
    usable = np.isfinite(rms) & (rms > TINY)
    largest = int(np.argmax(np.where(np.isnan(rms), math.inf, rms)))
    finite_input = given_rms[np.isfinite(given_rms)]
    input_rms = float(finite_input.max()) if len(finite_input) else None
    first_rms = float(rms[largest]) if not math.isnan(rms[largest]) else math.inf
    chain = rms[usable]
    before = rows[(rows["step"] >= onset.window[0]) & (rows["step"] < onset.step)]
    loud = np.maximum(np.abs(before["low"]), np.abs(before["high"]))
    place = int(np.nanargmax(loud)) if np.isfinite(loud).any() else None
    return Activations(
        input_rms=input_rms,
        first_rms=first_rms,
        first_layer=_name(trace, first[largest]),
        amplification=first_rms / max(input_rms or 1.0, 1.0),
        gain_per_layer=float((chain[-1] / chain[0]) ** (1 / (len(chain) - 1))) if len(chain) > 2 else None,
        layers=len(first),
        absmax_before=float(loud[place]) if place is not None else None,
        absmax_layer=_name(trace, before[place]) if place is not None else None,
        played=len(np.unique(rows["step"][(rows["flags"] & NO_GRAD) != 0])) >= AGAIN,
        unrolled=max(int(first["call"].max(initial=0)) + 1, _sequence(trace, first)),
        loudness_at_onset=_loudness(rows[rows["step"] == onset.step], before, loud),
    )


def _sequence(trace: Trace, rows: Rows) -> int:
    """Steps in time that torch's recurrent modules take within one call; of batch and time the smaller one."""
    kinds = classes(trace)
    shapes = [trace.shapes.get(int(row["shape"]), ()) for row in rows
              if kinds.get(_name(trace, row) or "", "") in RECURRENT]  # fmt: skip
    return max((min(shape[:2]) for shape in shapes if len(shape) > 2), default=1)


def _loudness(here: Rows, before: Rows, loud: Floats) -> float | None:
    usual = median(per_step(before["step"], loud, "max").values)
    if len(here) == 0 or not usual:
        return None
    with np.errstate(all="ignore"):
        return float(np.max(np.maximum(np.abs(here["low"]), np.abs(here["high"])))) / usual


def _rms(trace: Trace, rows: Rows) -> Floats:
    sizes = elements(trace, rows["shape"])
    with np.errstate(all="ignore"):
        return np.asarray(rows["norm"] / np.sqrt(sizes), np.float64)


def _name(trace: Trace, row: np.void) -> str | None:
    subject = trace.subjects.get(int(row["subject"]))
    return subject.name if subject else None
