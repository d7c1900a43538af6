"""A jump that no judge can name: forked copies tell whether going back from it is better than going on."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from . import clipping, learning_rate
from .applied import Applied, Gradients, Treat
from .opinion import Opinion
from .plans import UNKNOWN
from .rehearsal import behind, ends_of, sound

if TYPE_CHECKING:
    from .doctor import Doctor

AFTER, LATEST = 12, 24  # steps after a jump: time to come back; for one that goes on jumping
OFTEN = 3  # jumps of a run that are weighed up
PROVED = 3.0  # standard errors: nobody has named a cause, the copies alone are the proof
CANDIDATES: tuple[Treat, ...] = (clipping.usual, learning_rate.slower)


def weigh_up(doctor: "Doctor", gradients: Gradients | None) -> bool:
    """True: this step is to be left out, as it belongs to weights that are gone."""
    vitals, step = doctor.vitals, doctor.run.recorder.step
    level, lasts = vitals.level, step - doctor.jumped
    if level is None or lasts < AFTER or (doctor.awake > 1 and lasts < LATEST):
        return False
    vitals.level = None
    if gradients is None or len(doctor.optimizers) > 1 or doctor.weighed >= OFTEN or doctor.policy == "advise":
        return False
    if doctor.allowed or doctor.documents or doctor.most is not None and doctor.count >= doctor.most:
        return False
    doctor.weighed += 1
    why = f"the loss jumped at step {doctor.jumped}, and does not come back"
    opinion = Opinion(UNKNOWN, 0.0, why, doctor.evidence, True)
    as_it_is = doctor.rehearsal.losses(lambda: None)
    if as_it_is is None or not sound(as_it_is) or comes_back(as_it_is, level):
        return False
    best: tuple[float, Applied] | None = None
    for treat in CANDIDATES:
        applied = treat(doctor.case(opinion, gradients, ""))
        if applied is None:
            continue
        applied = replace(applied, back="onset", unharmed=doctor.jumped - doctor.window.base - 1)
        losses = doctor.rehearsal.losses(partial(doctor.begin, applied, opinion))
        if losses is None:
            return doctor.rehearsal.copy is not None
        if sound(losses):
            ends = ends_of({0: as_it_is, 1: losses})
            won = behind(ends[0], ends[1])
            if won > PROVED and comes_back(losses, level) and (best is None or won > best[0]):
                best = won, applied
    if best is None:
        return False
    return doctor.put_in_force(best[1], opinion, f"{why}; copies of the training that went back fare better")


def comes_back(losses: Sequence[float], level: float) -> bool:
    """The last losses are not surely above the level that the run had reached."""
    (ends,) = ends_of({0: losses}).values()
    return statistics.fmean(ends) <= level + PROVED * statistics.stdev(ends) / math.sqrt(len(ends))
