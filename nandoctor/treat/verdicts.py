"""What became of a treatment, in the words of the ledger."""

from typing import TYPE_CHECKING

from ..causes import treatments
from .applied import Applied
from .ledger import Ledger
from .opinion import Opinion, Trial
from .plans import Plan

if TYPE_CHECKING:
    from .doctor import Doctor

ANSWERS = (treatments.LEARNING_RATE, treatments.ADAPTIVE_CLIPPING)  # to large steps, whatever made them large


def advise(ledger: Ledger, opinion: Opinion, plan: Plan, why: str) -> None:
    names = [name for name, _ in plan]
    what = f"I would treat it with {', then '.join(dict.fromkeys(names))}; nothing was touched"
    ledger.write("advised", names[0], opinion.cause, what, why)


def helped(ledger: Ledger, trial: Trial, steps: int) -> None:
    ledger.write(
        "helped", trial.applied.name, trial.cause, f"it has helped, and stays: {trial.applied.what}",
        f"{steps} steps without an alarm",
    )  # fmt: skip


def withdrawn(ledger: Ledger, applied: Applied, cause: str, why: str) -> None:
    ledger.write("withdrawn", applied.name, cause, f"withdrawn: {applied.what}", why)


def withdraw_answers(doctor: "Doctor", root: Applied) -> None:
    """Slower or shorter steps answered what came of this: with it mended, from before it, they only hold back."""
    if not root.back or root.name != treatments.DATA:
        return
    for applied in [one for one in doctor.active if one.name in ANSWERS]:
        doctor.active.remove(applied)
        applied.stop()
        doctor.trials = [trial for trial in doctor.trials if trial.applied is not applied]
        cause = next(key for one, key in doctor.done if one is applied).split(" ")[0]
        withdrawn(doctor.ledger, applied, cause, "what it answered came of the data")


def stand_aside(ledger: Ledger, cause: str, tried: int, used_up: bool, why: str) -> None:
    what = "no more treatments are allowed" if used_up else f"{tried} treatments did not help or do not fit"
    ledger.write(
        "aside", "none", cause, f"{what}: I stand aside; updates that are not finite are still undone", why
    )
