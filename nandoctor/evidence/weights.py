"""The weights before the first step, how far they travelled, and who wrote them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..trace.schema import BAD
from ..trace.trace import Rows, Trace
from .layers import classes
from .series import EMPTY, Series, median
from .sizes import LARGEST

FAN_IN = ("Linear", "Conv", "LSTM", "GRU", "RNN")
NOT_FAN_IN = ("Embedding", "EmbeddingBag", "BatchNorm", "LayerNorm", "GroupNorm", "InstanceNorm", "RMSNorm")
TABLE = 2.0  # std of an embedding that is no rule's: torch draws from N(0, 1), others from less
LOOKS = 10  # steps: a branch that is used once in a while is not dead
MOST = 0.5  # of the parameters: a head that is drawn anew for another task is no accident
AROUND = 4  # losses before and after a write
BACK = 0.5  # of all that was won is lost at once
WON = 0.9  # of the first loss: below it something was won that could be lost
OFTEN = 0.1  # of the steps: what writes more often is part of the training
NEXT_TO_NOTHING = 0.02  # std * sqrt(fan-in), a fiftieth of Xavier's: neither signal nor gradient passes two such layers
MOVED = 0.5  # an update above half the weight: the weight after the step tells nothing about the initial one


@dataclass(frozen=True)
class Weights:
    worst_layer: str | None  # parameter whose initial spread is furthest above the fan-in rule
    worst_gain: float | None  # its std * sqrt(fan-in): 0.58 nn.Linear's default, 1.0 Xavier, 1.41 He
    worst_std: float | None
    worst_absmax: float | None
    bad_at_start: str | None  # parameter that was non-finite before any step
    growth: float | None  # norm of all weights, end / start
    foreign_change: tuple[int, str, float] | None  # the largest: step, parameter, relative change of its norm
    foreign_writes: tuple[tuple[int, str], ...]  # (step, parameter) written by other code than the optimizer
    checkpoint_loads: tuple[tuple[int, str], ...]  # (step, load or load_state_dict)
    faint: tuple[str, float, float] | None = None  # matrix that starts next to nothing but is not zero: name, std *
    # sqrt(fan-in), share of the elements of all matrices that lie in such ones
    zero_layer: str | None = None  # a weight matrix that is all zeros before the first step
    zero_stays: str | None = None  # one that still is at the end, although the optimizer was to train it
    zero_share: float = 0.0  # of all elements of weight matrices: in such ones
    zeros_first: float = 0.0  # of all elements of weight matrices: zero before the first step
    constant_layer: str | None = None  # a weight matrix whose elements are all the same number, not 0
    set_back: tuple[int, int, float, float] | None = None  # foreign writes that undid the training: how many, the
    # first's step, loss before and after
    loud_bias: tuple[str, float] | None = None  # bias that is furthest from 0 before the first step


def gather(trace: Trace, losses: Series = EMPTY) -> Weights | None:
    rows = trace.rows("weight")
    foreign = trace.rows("foreign_write")
    loads = [(step, name) for step, name in _events(trace, trace.rows("checkpoint")) if name.startswith("load")]
    if len(rows) == 0 and len(foreign) == 0 and not loads:
        return None
    initial_rows = initial(trace, rows)
    worst: tuple[float, str, float, float] | None = None
    kinds = classes(trace)
    zero: str | None = None
    constant: str | None = None
    zeros: list[int] = []
    bias: tuple[str, float] | None = None
    faint: list[tuple[float, int, str]] = []
    for row in initial_rows:
        name, shape = _name(trace, int(row["subject"])), trace.shapes.get(int(row["shape"]), ())
        owner = kinds.get(name.rpartition(".")[0], "")
        fan_in, count = math.prod(shape[1:]), math.prod(shape)
        table = owner.startswith("Embedding")
        if row["norm"] == 0 and len(shape) > 1 and owner.startswith(FAN_IN):  # a bias may well be 0
            zero = zero or name
            zeros.append(int(row["subject"]))
        elif row["norm"] == 0 and len(shape) > 1 and fan_in > 1 and (table or not kinds):  # products of two stay 0
            zeros.append(int(row["subject"]))
        far = max(abs(float(row["low"])), abs(float(row["high"])))
        if len(shape) == 1 and name.endswith("bias") and math.isfinite(far) and (bias is None or far > bias[1]):
            bias = (name, far)
        if len(shape) > 1 and owner.startswith(FAN_IN) and row["low"] == row["high"] != 0 and fan_in > 1:
            constant = constant or name
        if len(shape) < 2 or not 0 < count <= LARGEST or (owner.startswith(NOT_FAN_IN) and not table):
            continue
        std = float(row["norm"]) / math.sqrt(count)
        if not owner.startswith(FAN_IN):  # a log of a spread, say, starts around its own level: at most half the range
            std = min(std, (float(row["high"]) - float(row["low"])) / 2)
        gain = std * math.sqrt(fan_in) if not table else std if std > TABLE else math.nan
        if 0 < gain <= NEXT_TO_NOTHING and not table:
            faint.append((gain, int(row["subject"]), name))
        if math.isfinite(gain) and (worst is None or gain > worst[0]):
            worst = (gain, name, std, max(abs(float(row["low"])), abs(float(row["high"]))))
    bad = initial_rows[(initial_rows["flags"] & BAD) != 0]
    stuck = [s for s in zeros if _still_zero(trace, rows, s)]
    return Weights(
        worst_layer=worst[1] if worst else None,
        worst_gain=worst[0] if worst else None,
        worst_std=worst[2] if worst else None,
        worst_absmax=worst[3] if worst else None,
        bad_at_start=_name(trace, int(bad[0]["subject"])) if len(bad) else None,
        growth=_growth(rows, initial_rows),
        foreign_change=_largest_change(trace, foreign),
        foreign_writes=tuple(_events(trace, foreign)),
        checkpoint_loads=tuple(loads),
        faint=(faint[0][2], max(faint)[0], _share(trace, initial_rows, [s for _, s, _ in faint])) if faint else None,
        zero_layer=zero,
        zero_stays=next((_name(trace, s) for s in stuck), None),
        zero_share=_share(trace, initial_rows, stuck),
        zeros_first=_share(trace, initial_rows, zeros) if len(zeros) > 1 else 0.0,
        constant_layer=constant,
        loud_bias=bias,
        set_back=_set_back(foreign, losses, len(np.unique(rows["subject"]))),
    )


def _still_zero(trace: Trace, rows: Rows, subject: int) -> bool:
    """Zero to the end, in a model of which it got gradients that were all zero."""
    norms = rows["norm"][rows["subject"] == subject]
    gradients = trace.rows("parameter_gradient")
    name = _name(trace, subject)
    own = [s for s in np.unique(gradients["subject"]) if _name(trace, int(s)) == name]
    asked = np.isin(gradients["subject"], own)
    return len(norms) >= LOOKS and bool((norms == 0).all()) and int(asked.sum()) >= LOOKS


def _share(trace: Trace, rows: Rows, chosen: list[int]) -> float:
    """Of the elements of all matrices, how many lie in these."""
    sizes = {int(row["subject"]): math.prod(trace.shapes.get(int(row["shape"]), ())) for row in rows
             if len(trace.shapes.get(int(row["shape"]), ())) > 1}  # fmt: skip
    total = sum(sizes.values())
    return sum(sizes.get(s, 0) for s in chosen) / total if total else 0.0


def _set_back(foreign: Rows, losses: Series, parameters: int) -> tuple[int, int, float, float] | None:
    steps, written = np.unique(foreign["step"], return_counts=True)
    steps = steps[written >= MOST * parameters]
    first = median(losses.values[:AROUND])
    if first is None or len(steps) == 0 or len(steps) > OFTEN * len(losses):
        return None
    undone = []
    for step in steps.tolist():
        before = median(losses.between(step - AROUND, step).values)
        after = median(losses.between(step, step + AROUND).values)
        if before is not None and after is not None and before < WON * first:
            undone += [(step, before, after)] if after - before >= BACK * (first - before) else []
    return (len(undone), *undone[0]) if undone else None


def _largest_change(trace: Trace, foreign: Rows) -> tuple[int, str, float] | None:
    changes = foreign["value"]
    if len(changes) == 0 or np.isnan(changes).all():
        return None
    row = foreign[int(np.nanargmax(changes))]
    return int(row["step"]), _name(trace, int(row["subject"])), float(row["value"])


def initial(trace: Trace, rows: Rows) -> Rows:
    """One row for each parameter before the first step; after it, where the step hardly moved the weight."""
    updates = trace.rows("update")
    begun = ("step", "update", "learning_rate", "gradient_norm")  # a weight is read after the step, before its update
    start = int(min((int(o) for kind in begun for o in trace.rows(kind)["order"][:1]), default=2**62))
    _, places = np.unique(rows["subject"], return_index=True)
    first = rows[np.sort(places)]
    moved = {int(row["subject"]): float(row["norm"]) for row in updates[updates["step"] == 0]}
    keep = [
        int(row["order"]) < start
        or (int(row["step"]) == 0 and moved.get(int(row["subject"]), math.inf) <= MOVED * float(row["norm"]))
        for row in first
    ]
    chosen: Rows = first[np.array(keep, bool)]
    return chosen


def _growth(rows: Rows, initial: Rows) -> float | None:
    if len(initial) == 0:
        return None
    known = rows[np.isin(rows["subject"], initial["subject"]) & np.isfinite(rows["norm"])]
    _, places = np.unique(known["subject"][::-1], return_index=True)
    last = known[::-1][places]
    with np.errstate(all="ignore"):
        start, end = np.sqrt((initial["norm"] ** 2).sum()), np.sqrt((last["norm"] ** 2).sum())
    return float(end / start) if start > 0 and np.isfinite(end) else None


def _events(trace: Trace, rows: Rows) -> list[tuple[int, str]]:
    return [(int(row["step"]), _name(trace, int(row["subject"]))) for row in rows[:100]]


def _name(trace: Trace, number: int) -> str:
    subjects: Mapping[int, Any] = trace.subjects
    return str(subjects[number].name) if number in subjects else str(number)
