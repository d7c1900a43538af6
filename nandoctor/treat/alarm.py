"""Is anything wrong with this step? Told by the loss and the norm of the gradients alone, at each step."""

import math
from typing import TYPE_CHECKING

from .applied import Gradients
from .patience import highest_rate

if TYPE_CHECKING:
    from .doctor import Doctor

STAYS_AWAKE = 12  # steps after a spike in which the judges are asked: they want to see whether the loss comes back
PERSISTS = 6  # steps, if the run seems to diverge: a peak that comes back is healthy


def alarm_of(doctor: "Doctor", gradients: Gradients) -> str:
    """What is wrong with this step, in words; "" for nothing."""
    vitals = doctor.vitals
    bad_loss = doctor.loss is not None and not math.isfinite(doctor.loss)
    spike = False
    if doctor.loss is not None:
        spike = vitals.loss.add(doctor.loss)
    spike = vitals.norm.add(gradients.total) or spike
    if spike and not doctor.awake:
        vitals.level, doctor.jumped = vitals.reached(), doctor.run.recorder.step
    if doctor.loss is not None:
        vitals.loss_is(doctor.loss, highest_rate(doctor.optimizers), doctor.run.recorder.step)
    bad = bad_loss or not gradients.finite
    vitals.bad_in_a_row = vitals.bad_in_a_row + 1 if bad else 0
    if bad_loss:
        return "the loss is not finite"
    if not gradients.finite:
        return "gradients are not finite"
    if spike:
        doctor.awake = STAYS_AWAKE
        return "the loss or the gradients jumped"
    if doctor.awake:
        doctor.awake = STAYS_AWAKE if doctor.agreed[1] and doctor.agreed[1] < PERSISTS else doctor.awake - 1
        return "after a jump"
    return ""
