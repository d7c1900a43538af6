"""What became of a treatment, in the words of the ledger."""

from .ledger import Ledger
from .opinion import Opinion, Trial
from .plans import Plan


def advise(ledger: Ledger, opinion: Opinion, plan: Plan, why: str) -> None:
    names = [name for name, _ in plan]
    what = f"I would treat it with {', then '.join(dict.fromkeys(names))}; nothing was touched"
    ledger.write("advised", names[0], opinion.cause, what, why)


def helped(ledger: Ledger, trial: Trial, steps: int) -> None:
    ledger.write(
        "helped", trial.applied.name, trial.cause, f"it has helped, and stays: {trial.applied.what}",
        f"{steps} steps without an alarm",
    )  # fmt: skip


def withdrawn(ledger: Ledger, trial: Trial, step: int) -> None:
    ledger.write(
        "withdrawn", trial.applied.name, trial.cause, f"withdrawn: {trial.applied.what}",
        f"{step - trial.since} steps later it is worse or no better",
    )  # fmt: skip


def stand_aside(ledger: Ledger, cause: str, tried: int, used_up: bool, why: str) -> None:
    what = "no more treatments are allowed" if used_up else f"{tried} treatments did not help or do not fit"
    ledger.write(
        "aside", "none", cause, f"{what}: I stand aside; updates that are not finite are still undone", why
    )
