"""Whether the model's answers belong to their samples, whatever the loss is: it was computed again with the answers of
a batch exchanged among its samples.
"""

import math
from dataclasses import dataclass

import numpy as np

from ..trace.trace import Rows, Trace
from . import fields
from .series import Series
from .sizes import LARGEST

FEW = 8  # looks: four exchanges each
LATE = 12  # looks that say how it ended
AROUND = 20  # losses whose mean is a level
SIGMAS = 3.0  # its standard errors
A_TENTH = 0.1  # of the way until then


@dataclass(frozen=True)
class Exchanged:
    """For a squared error `tie` is the correlation of answers and targets; for others what plays its part."""

    looks: int
    tie: float  # at the last looks: rise of the loss by an exchange / its spread over exchanges / root of the samples
    certain: float  # that rise in its own standard errors
    step: int  # of the last look
    since: bool  # the loss fell further after it, by more than chance: what was learned then was not looked at


@dataclass(frozen=True)
class Crossed:
    """Answers [rows, 1] and targets [rows] were expanded against each other."""

    loss: str
    rows: int
    step: int


def crossed(trace: Trace) -> Crossed | None:
    for note in trace.notes_of("crossed"):
        rows, step = fields.number(note, "rows"), fields.whole(note, "step")
        if rows is not None and math.isfinite(rows) and step is not None:
            return Crossed(fields.words(note, "loss") or "the loss", int(rows), step)
    return None


def gather(trace: Trace, losses: Series) -> Exchanged | None:
    """Of several calls of models in one step the one whose answers matter most."""
    rows = trace.rows("exchanged")
    sound = np.isfinite(rows["value"]) & np.isfinite(rows["divisor"]) & (rows["of"] > 1)
    rows = rows[sound & (rows["of"] < LARGEST)]
    found = [_of(rows[rows["subject"] == subject], losses) for subject in np.unique(rows["subject"])]
    return max((each for each in found if each is not None), key=lambda each: each.tie, default=None)


def _of(rows: Rows, losses: Series) -> Exchanged | None:
    if len(rows) < FEW:
        return None
    late = rows[-LATE:]
    spread = math.sqrt(float((late["divisor"] ** 2).mean()))
    if not 0 < spread < math.inf:
        return None
    rise = float(late["value"].mean()) / spread
    return Exchanged(
        looks=len(rows),
        tie=rise / math.sqrt(float(late["of"].mean()) - 1),
        certain=rise * math.sqrt(len(late)),
        step=int(rows["step"][-1]),
        since=_fell(losses, int(rows["step"][-1])),
    )


def _fell(losses: Series, step: int) -> bool:
    values = losses.values[np.isfinite(losses.values)]
    then, last = losses.between(step - AROUND, step + 1).values, values[-AROUND:]
    if len(then) < 2 or len(last) < 2 or not np.isfinite(then).all():
        return True
    chance = SIGMAS * math.sqrt(float(then.var()) / len(then) + float(last.var()) / len(last))
    way = max(0.0, float(values[0]) - float(then.mean()))
    return float(then.mean() - last.mean()) > max(chance, A_TENTH * way)
