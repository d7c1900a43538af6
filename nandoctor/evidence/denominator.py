"""The denominator of an adaptive optimizer: eps against the type it is stored in, and how far single elements went."""

import math
from dataclasses import dataclass

import numpy as np

from ..trace.schema import DTYPES, NORM_ONLY
from ..trace.trace import Rows, Trace
from . import fields
from .series import Floats, Steps, median, per_step

ROUNDS_TO_ZERO = {"float16": 2.0**-25, "bfloat16": 2.0**-134, "float32": 2.0**-150}  # half the smallest number


@dataclass(frozen=True)
class Denominator:
    eps: float | None  # the smallest of the groups
    dtype: str  # of the parameters that the optimizer updates, the narrowest
    vanishes: bool  # eps is 0, or rounds to 0 in that type
    below_eps: float | None  # share of elements of sqrt(v) below eps, median of looks
    zeros: float | None  # share that is exactly 0, median of looks
    largest: float | None  # largest |update of an element| / lr over all looks
    bound: float | None  # what healthy hyperparameters allow: max(1, (1 - beta1) / sqrt(1 - beta2)), E18
    beta1: float | None
    beta2: float | None
    momentum: float | None
    broken_at: int | None  # first look at which the bound was passed threefold


PASSED = 3.0  # times the bound: weight decay and rounding stay far below it


def gather(trace: Trace) -> Denominator | None:
    notes = trace.notes_of("optimizer")
    groups = [g for note in notes for g in fields.items(note, "groups") if hasattr(g, "get")]
    if not groups:
        return None
    epsilons = [value for g in groups if (value := fields.number(g, "eps")) is not None]
    betas = [fields.items(g, "betas") for g in groups]
    beta1, beta2 = (_first([pair[i] for pair in betas if len(pair) > i]) for i in (0, 1))
    alpha = _first([fields.number(g, "alpha") for g in groups])
    beta2 = beta2 if beta2 is not None else alpha  # RMSprop
    updates = trace.rows("update")
    dtype = _narrowest(updates)
    eps = min(epsilons) if epsilons else None
    denominators = trace.rows("denominator")
    with np.errstate(all="ignore"):
        below, zero = denominators["value"] / denominators["of"], denominators["zeros"] / denominators["of"]
    steps, sizes = _against_lr(trace, updates)
    bound = _bound(beta1, beta2)
    over = steps[sizes > PASSED * bound] if bound is not None else steps[:0]
    return Denominator(
        eps=eps,
        dtype=dtype,
        vanishes=eps is not None and eps < ROUNDS_TO_ZERO.get(dtype, 0.0) or eps == 0,
        below_eps=median(below),
        zeros=median(zero),
        largest=float(sizes.max()) if len(sizes) else None,
        bound=bound,
        beta1=beta1,
        beta2=beta2,
        momentum=_first([fields.number(g, "momentum") for g in groups]),
        broken_at=int(over[0]) if len(over) else None,
    )


def _first(values: list[object]) -> float | None:
    return next((float(v) for v in values if isinstance(v, (int, float)) and not isinstance(v, bool)), None)


def _bound(beta1: float | None, beta2: float | None) -> float | None:
    if beta2 is None or not 0 <= beta2 < 1:
        return None
    return max(1.0, (1 - (beta1 or 0.0)) / math.sqrt(1 - beta2))


def _narrowest(updates: Rows) -> str:
    names = {DTYPES[int(d)] for d in np.unique(updates["dtype"])}
    return next((name for name in ("float16", "bfloat16", "float32") if name in names), "float32")


def _against_lr(trace: Trace, updates: Rows) -> tuple[Steps, Floats]:
    looks = updates[(updates["flags"] & NORM_ONLY) == 0]
    rates = trace.rows("learning_rate")
    if len(looks) == 0 or len(rates) == 0:
        return np.zeros(0, np.int64), np.zeros(0)
    lr = per_step(rates["step"], rates["value"], "max")
    at = np.clip(np.searchsorted(lr.steps, looks["step"]), 0, len(lr) - 1)
    with np.errstate(all="ignore"):
        sizes = np.maximum(np.abs(looks["low"]), np.abs(looks["high"])) / lr.values[at]
    usable = np.isfinite(sizes)
    return looks["step"][usable], sizes[usable]
