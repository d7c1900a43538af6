"""What the judges cannot settle, forked copies do: a jump that none can name, and a rate that may be too high although
the training learns.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from . import clipping, data, learning_rate
from .applied import Applied, Gradients, Treat
from .opinion import Opinion
from .plans import UNKNOWN
from .rehearsal import behind, ends_of, sound

if TYPE_CHECKING:
    from .doctor import Doctor

AFTER, LATEST = 12, 24  # steps after a jump: time to come back; for one that goes on jumping
OFTEN = 3  # jumps of a run that are weighed up
PROVED = 3.0  # standard errors: nobody has named a cause, the copies alone are the proof
SOON = 12  # steps, until which a verdict from a size alone is not weighed: a median of losses to begin with
MISSED = 0.25  # of the way that a smaller rate comes from the first loss, by which this run has to be behind
DWARFED = 0.1  # of this run's loss, and of where it began: data in raw units cost a healthy run time, not that much
WEIGHED: dict[str, Treat] = {"lr-too-high": learning_rate.slower, "data-outlier": data.tame}
CANDIDATES: tuple[Treat, ...] = (clipping.usual, learning_rate.slower)


def weigh_up(doctor: "Doctor", gradients: Gradients | None) -> bool:
    """True: this step is to be left out, as it belongs to weights that are gone."""
    vitals, step = doctor.vitals, doctor.run.recorder.step
    level, lasts = vitals.level, step - doctor.jumped
    drifts = level is None and not doctor.awake and vitals.drifted()
    if drifts:
        level, doctor.jumped = vitals.best, vitals.best_at + doctor.window.base
    elif level is None or lasts < AFTER or (doctor.awake > 1 and lasts < LATEST):
        return False
    assert level is not None
    vitals.level = None
    if gradients is None or doctor.weighed >= OFTEN or not decides_alone(doctor):
        return False
    doctor.weighed += 1
    why = f"the loss {'rises since' if drifts else 'jumped at'} step {doctor.jumped}, and does not come back"
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


def weigh_rate(doctor: "Doctor", opinion: Opinion, gradients: Gradients | None) -> bool:
    """The rate or the data seem too large, yet the loss falls: would it fall surely farther from the start otherwise?

    This run goes on for as many steps as the copy takes from the start: it is ahead by those it has behind it.
    """
    vitals, step = doctor.vitals, doctor.run.recorder.step
    treat = WEIGHED.get(opinion.cause)
    if treat is None or gradients is None or step - doctor.window.base < SOON or not vitals.early:
        return False
    if not decides_alone(doctor) or step < doctor.doubt_again or doctor.doubted >= OFTEN:
        return False
    doctor.doubt_again, doctor.doubted = 2 * step, doctor.doubted + 1
    case = doctor.case(opinion, gradients, "")

    def otherwise() -> None:
        """In the copy: what is put in place there is not in this process."""
        applied = treat(case)
        if applied is not None:
            doctor.begin(applied, opinion)

    if (losses := doctor.rehearsal.losses(otherwise)) is None:
        return doctor.rehearsal.copy is not None
    if not sound(losses):
        return False
    as_it_is = doctor.rehearsal.losses(lambda: None)
    enough = far_below if treat is data.tame else farther
    if as_it_is is None or sound(as_it_is) and not enough(losses, as_it_is, vitals.early[0]):
        return False
    applied = treat(case)
    if applied is None:
        return False
    doctor.tried[opinion.key] = doctor.tried.get(opinion.key, 0) + 1
    how = "data brought to scale" if treat is data.tame else "less"
    why = f"{opinion.because}; a copy of the training that began again with {how} came farther in {len(losses)} steps"
    return doctor.put_in_force(applied, opinion, why)


def decides_alone(doctor: "Doctor") -> bool:
    """Nobody has told it what to do, and copies speak for the whole training."""
    if len(doctor.optimizers) > 1 or doctor.policy == "advise" or doctor.allowed or doctor.documents:
        return False
    return doctor.most is None or doctor.count < doctor.most


def farther(these: Sequence[float], those: Sequence[float], first: float) -> bool:
    """The last of these losses are surely below the last of those, by a good part of the way from the first loss."""
    (low,), (high,) = ends_of({0: these}).values(), ends_of({0: those}).values()
    gained = statistics.fmean(high) - statistics.fmean(low)
    error = math.sqrt(statistics.variance(low) / len(low) + statistics.variance(high) / len(high))
    return gained > PROVED * error and gained >= MISSED * (first - statistics.fmean(low)) > 0


def far_below(these: Sequence[float], those: Sequence[float], first: float) -> bool:
    """The last of these losses are a small part of the last of those."""
    (low,), (high,) = ends_of({0: these}).values(), ends_of({0: those}).values()
    return 0 <= statistics.fmean(low) < DWARFED * min(statistics.fmean(high), first) and max(low) < min(high)


def comes_back(losses: Sequence[float], level: float) -> bool:
    """The last losses are not surely above the level that the run had reached."""
    (ends,) = ends_of({0: losses}).values()
    return statistics.fmean(ends) <= level + PROVED * statistics.stdev(ends) / math.sqrt(len(ends))
