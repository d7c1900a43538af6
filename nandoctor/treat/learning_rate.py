"""A smaller learning rate, as a factor that is applied at each step: no scheduler can overwrite it."""

import math

from torch.optim import Optimizer

from ..causes import treatments
from ..evidence import Evidence
from .applied import Applied, Back, Case

HEALTHY_RATIO = 0.01  # update / weights of a first step; the study's healthy runs stay below 0.004 later on
MOST, LEAST = 0.5, 1e-5  # a factor nearer to 1 is none; a run that needs less is not one of step size alone
AGAIN = 0.1  # what did not help is divided by ten
GROWS_AFTER, GROWTH = 10, 1.3  # calm steps, factor: a cut that was too deep is taken back while nothing rises
WAY_BACK = 10.0  # but no farther than this times what was chosen: it was chosen from this run's own updates
HOT_FIRST = 0.05  # of the weights; no healthy first update of the study but of tiny or zero weights is larger
HALF = 0.5  # of the documents


class Cut:
    """A factor that recovers slowly while the run stays calm, and gives way at once when the loss rises."""

    def __init__(self, case: Case, factor: float) -> None:
        self.case = case
        self.value = self.first = factor
        self.calm = 0
        self.step = -1

    def factor(self, optimizer: Optimizer) -> float:
        vitals, step = self.case.vitals, self.case.run.recorder.step
        if step != self.step:
            self.step = step
            if vitals.loss.high() or vitals.bad_in_a_row:
                self.calm, self.value = 0, max(self.value / GROWTH, self.first / WAY_BACK)
            else:
                self.calm += 1
            if self.calm >= GROWS_AFTER:
                self.calm, self.value = 0, min(self.value * GROWTH, self.first * WAY_BACK, MOST)
        return self.value


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
    """Where the very first updates were too large, no later weights are worth going back to."""
    first = e.optimizer.update_ratio_first if e.optimizer else None
    return "start" if first is not None and first >= HOT_FIRST else "onset"


def slower(case: Case) -> Applied | None:
    factor = estimate(case.evidence) * AGAIN**case.tries
    cut = Cut(case, factor)
    lr = case.evidence.optimizer.lr_peak if case.evidence.optimizer else None
    was = f" (was up to {lr:.3g})" if lr is not None and math.isfinite(lr) else ""
    return Applied(
        treatments.LEARNING_RATE,
        f"the learning rate is multiplied by {factor:.3g}{was}, and slowly raised again while the loss stays low",
        "remove --active; to keep it, multiply lr in your script",
        {"kind": "lr", "factor": factor},
        back=back_to(case.evidence),
        factor=cut.factor,
    )


def halved(case: Case) -> Applied | None:
    """monash-stability, nan-guide: lower it, step by step; halving is what nan-root-cause's ladder does."""
    factor = HALF ** (case.tries + 1)
    return Applied(
        treatments.LEARNING_RATE, f"the learning rate is multiplied by {factor:g}",
        "remove --active; to keep it, multiply lr in your script", {"kind": "lr", "factor": factor},
        factor=lambda _: factor,
    )  # fmt: skip
