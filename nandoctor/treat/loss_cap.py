"""A loss beyond all measure, or a gradient that is not finite, does not move the weights."""

import math

from ..causes import treatments
from .applied import Applied, Case, Gradients
from .finite import mend_

CAP = 1e6  # monash-stability


def cap(case: Case) -> Applied | None:
    def gradients(found: Gradients) -> bool:
        return found.loss is not None and not (math.isfinite(found.loss) and found.loss <= CAP)

    return Applied(
        treatments.LOSS_CAP, f"a batch whose loss is not finite or above {CAP:g} does not move the weights",
        "remove --active", {"kind": "loss-cap", "cap": CAP}, gradients=gradients,
    )  # fmt: skip


def checked(case: Case) -> Applied | None:
    """repair-not-skip: entries that are not finite become 0, the others stay."""

    def gradients(found: Gradients) -> None:
        if not found.finite:
            for gradient in found.tensors():
                mend_(gradient)
            found.finite = True

    return Applied(
        treatments.NONFINITE_GRADIENTS, "entries of gradients that are not finite become 0", "remove --active",
        {"kind": "gradients"}, gradients=gradients,
    )  # fmt: skip
