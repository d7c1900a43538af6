"""A smaller learning rate, as a factor that is applied at each step: no scheduler can overwrite it."""

import math

from ..causes import treatments
from ..evidence import Evidence
from .applied import Applied, Back, Case
from .cut import HEALTHY_RATIO, Cut

MOST, LEAST = 0.5, 1e-5  # a factor nearer to 1 is none; a run that needs less is not one of step size alone
AGAIN = 0.1  # what did not help is divided by ten
HOT_FIRST = 0.05  # of the weights; no healthy first update of the study but of tiny or zero weights is larger
WHILE, LEARNED = 40, 0.9  # steps, and the share of the first loss: a run that came so far has weights worth keeping
HALF = 0.5  # of the documents


def estimate(e: Evidence) -> float:
    """Which part of the step would have been a healthy one, from the sizes of this run's updates."""
    optimizer = e.optimizer
    seen = (optimizer.update_ratio_first, optimizer.update_ratio, optimizer.update_ratio_onset) if optimizer else ()
    ratios = [ratio for ratio in seen if ratio is not None and math.isfinite(ratio) and ratio > 0]
    if not ratios:
        return AGAIN
    # the first update met the first weights; later ones met what it had made of them. A schedule may begin at nothing
    return min(MOST, max(LEAST, HEALTHY_RATIO / (ratios[0] if ratios[0] > HEALTHY_RATIO else max(ratios))))


def back_to(e: Evidence) -> Back:
    """Where the very first updates were too large, no later weights are worth going back to, unless it had learned."""
    first = e.optimizer.update_ratio_first if e.optimizer else None
    if e.loss is not None and e.loss.pre_median is not None and e.onset.step >= WHILE:
        if e.loss.pre_median < LEARNED * e.loss.first:
            return "onset"
    return "start" if first is not None and first >= HOT_FIRST else "onset"


def slower(case: Case) -> Applied | None:
    factor = estimate(case.evidence) * AGAIN**case.tries
    back = back_to(case.evidence)
    cut = Cut(case, factor, AGAIN**case.tries, back == "start")
    lr = case.evidence.optimizer.lr_peak if case.evidence.optimizer else None
    was = f" (was up to {lr:.3g})" if lr is not None and math.isfinite(lr) else ""
    return Applied(
        treatments.LEARNING_RATE,
        f"the learning rate is multiplied by {factor:.3g}{was} or by what each group's updates ask for, "
        "and raised again while the loss falls",
        "remove --active; to keep it, multiply lr in your script",
        {"kind": "lr", "factor": factor},
        back=back,
        rate=cut.rate,
        after=cut.after,
        settle=cut.settle,
        again=cut.again,
    )


def halved(case: Case) -> Applied | None:
    """monash-stability, nan-guide: lower it, step by step; halving is what nan-root-cause's ladder does."""
    factor = HALF ** (case.tries + 1)
    return Applied(
        treatments.LEARNING_RATE, f"the learning rate is multiplied by {factor:g}",
        "remove --active; to keep it, multiply lr in your script", {"kind": "lr", "factor": factor},
        factor=lambda _: factor,
    )  # fmt: skip
