"""Where two recordings of a program part, and how far they drift from each other. Facts of two traces; numpy only.

Rows are put side by side kind by kind, in order of time, as long as both hold the same sequence of steps, subjects
and calls. A value is compared to the last bit; `relative` is its difference against the larger of both, for the ends
of a tensor against its largest absolute value, so that an element near 0 does not make noise look like signal.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..trace.schema import KINDS
from ..trace.trace import Subject, Trace
from .series import EMPTY, Series, growth_per_step, per_step
from .side_by_side import Pair, Parting

NOT_COMPARED = ("elapsed",)  # a clock
GROWTH_STEPS = 20  # steps after parting whose growth is fitted


@dataclass(frozen=True)
class Divergence:
    first: Parting | None  # None: equal to the last bit
    beyond: Parting | None  # the first whose difference is larger than rounding
    written: Parting | None  # a parameter that somebody unseen changed in one of them
    rows: int  # rows put side by side
    steps: int  # steps that both recordings have begun
    equal_before: Mapping[str, int] = field(default_factory=dict)  # kind -> equal rows before `first`
    equal_random: int = 0  # of them, outputs of modules that draw random numbers
    equal_here: int = 0  # steps in which what parts at `first` was equal before
    other_start: bool = False  # the weights differ before the first step
    drift: Series = EMPTY  # largest by step
    growth: float | None = None  # factor a step, after parting
    same_data: bool | None = None  # the batches of the first epoch hold the same values, in whatever order


def compare(a: Trace, b: Trace) -> Divergence:
    names = _common_names(a, b)
    numbers = _numbered(a, names), _numbered(b, names)
    pairs = [Pair(kind, a, b, numbers) for kind in KINDS if kind not in NOT_COMPARED]
    ends = (_last_step(a), _last_step(b))
    first = min((p for pair in pairs for p in pair.partings(ends, any_bit=True)), key=_when, default=None)
    beyond = min((p for pair in pairs for p in pair.partings(ends, any_bit=False)), key=_when, default=None)
    written = next((p for pair in pairs if pair.kind == "foreign_write" for p in pair.partings(ends, True)), None)
    drifts = [pair.drift for pair in pairs if len(pair.drift)]
    steps = np.concatenate([d.steps for d in drifts]) if drifts else np.zeros(0, np.int64)
    drift = per_step(steps, np.concatenate([d.values for d in drifts]) if drifts else np.zeros(0), "max")
    drift = drift.between(first.step, int(drift.steps[-1]) + 1) if first is not None and len(drift) else drift
    return Divergence(
        first=first,
        beyond=beyond,
        written=written,
        rows=sum(pair.count for pair in pairs),
        steps=min(ends) + 1,
        equal_before={pair.kind: n for pair in pairs if first is not None and (n := pair.before(first.order))},
        equal_random=sum(pair.random_before(first.order) for pair in pairs) if first is not None else 0,
        equal_here=sum(pair.same_before(first) for pair in pairs) if first is not None else 0,
        other_start=any(pair.initial_differs() for pair in pairs),
        drift=drift,
        growth=growth_per_step(drift.between(first.step, first.step + GROWTH_STEPS)) if first is not None else None,
        same_data=_same_data(a, b),
    )


def _when(parting: Parting) -> int:
    return parting.order


def _last_step(trace: Trace) -> int:
    ends = [trace.rows(kind)["step"][-1:].tolist() for kind in ("step", "loss", "backward")]
    return max((step for end in ends for step in end), default=-1)


def _identity(subject: Subject) -> tuple[Any, ...]:
    if subject.role == "loader":  # its name may depend on where in memory a loader of an epoch before lay
        return ("loader",)
    return subject.role, subject.name, subject.module, subject.tensor


def _common_names(a: Trace, b: Trace) -> dict[tuple[Any, ...], int]:
    """One number for a subject in both traces."""
    found: dict[tuple[Any, ...], int] = {}
    for subject in (*a.subjects.values(), *b.subjects.values()):
        found.setdefault(_identity(subject), len(found))
    return found


def _numbered(trace: Trace, names: Mapping[tuple[Any, ...], int]) -> dict[int, int]:
    return {number: names[_identity(subject)] for number, subject in trace.subjects.items()}


def _same_data(a: Trace, b: Trace) -> bool | None:
    """Whether the first epoch's batches sum up to the same squares: another order does not change that."""
    sums = []
    for trace in (a, b):
        for kind in ("batch", "input"):
            rows = trace.rows(kind)
            rows = rows[(rows["epoch"] <= 0) & (rows["mode"] == 0)]
            if len(rows):
                with np.errstate(all="ignore"):
                    sums.append((kind, len(rows), float((rows["norm"] ** 2).sum())))
                break
    if len(sums) != 2 or sums[0][:2] != sums[1][:2] or not all(math.isfinite(one[2]) for one in sums):
        return None
    return abs(sums[0][2] - sums[1][2]) <= 1e-6 * max(sums[0][2], sums[1][2])
