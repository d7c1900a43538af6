"""Back to weights and optimizer state from before the run left its path, and slower from there."""

from torch.optim import Optimizer

from ..causes import treatments
from .applied import Applied, Case
from .cut import Tempo

SLOWER = 0.5  # after each rollback


def slower(case: Case) -> Applied | None:
    if not case.snapshots.kept:
        return None
    factor = SLOWER ** (case.tries + 1)

    tempo = Tempo(case, factor, 1.0)

    def rate(_: Optimizer) -> float:
        return tempo.value

    return Applied(
        treatments.ROLLBACK, f"rolled back, and the learning rate is multiplied by {factor:g}",
        "remove --active", {"kind": "lr", "factor": factor}, back="onset", factor=rate, settle=tempo.settle,
    )  # fmt: skip


def restored(case: Case) -> Applied | None:
    """Somebody else wrote them: the optimizer is not to blame, and keeps its rate."""
    if not case.snapshots.kept or case.tries > 1:
        return None
    return Applied(
        treatments.NONFINITE_WEIGHTS, "weights and optimizer state are restored", "remove --active",
        {"kind": "weights"}, back="onset",
    )  # fmt: skip


def checked(case: Case) -> Applied | None:
    """nan-root-cause: every weight is checked after each update; safety.py does it in any case."""
    return Applied(
        treatments.NONFINITE_WEIGHTS, "weights that are not finite are replaced after each step", "remove --active",
        {"kind": "weights"},
    )  # fmt: skip
