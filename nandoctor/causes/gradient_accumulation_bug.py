"""Gradients are collected wrongly: never cleared, cleared too early, or not divided.

What happens
    backward adds to what stands in .grad. Without zero_grad every step uses the sum
    of all gradients so far, which grows from step to step. With zero_grad between
    backward and step there is nothing left to use. With k backwards for one step
    and a loss that is not divided by k the step is k times too large.

How to tell it from its neighbours
    lr-too-high: successive gradients turn around; a sum that is never cleared keeps
    its direction. loss-plateau: gradients arrive at the optimizer.

What to do
    zero_grad once for every step, before the first backward of it. Divide the loss
    by the number of batches that one step collects, or lower the learning rate by it.

Sources
    stability-guide (order of a step; scale the learning rate with accumulation)
"""

from ..evidence import Accumulation, Evidence
from .cause import Answer, CannotSay, Cause, Remedy
from .course import FEW_STEPS, learned_little, swings
from .failure import failed
from .remedies import papers, stability_guide, torch_docs
from .remedies.this_run import accumulated
from .weighing import Clue, clue, weigh
from .wording import num, percent

OFTEN = 0.3  # of the steps: zero_grad once in two steps is a bug already, once an epoch is 0.9
NEVER_USED = 0.9  # of the steps found no gradient
DIVIDED = 0.6  # a divisor below this share of the backwards does not divide the loss
LINE_SEARCH = ("LBFGS",)  # calls backward as often as it likes, each time on gradients that its closure cleared
MANY = 4  # backwards for a step: nobody has so many losses of one model
SAME_WAY = 0.8  # cosine of successive gradients: a sum turns slowly
PRIOR = -2.0


def judge(e: Evidence) -> Answer:
    collected = e.accumulation
    if collected is None:
        return CannotSay("gradient-accumulation-bug: too few steps to see how gradients are collected")
    if e.optimizer is not None and e.optimizer.name in LINE_SEARCH:
        return None
    clues = _never_cleared(e, collected) or _lost(collected) or _undivided(e, collected)
    if not clues:
        return None
    return weigh(PRIOR, clues, f"Gradients are not collected as meant: {clues[0].fact.fact}.")


def _never_cleared(e: Evidence, collected: Accumulation) -> list[Clue]:
    if collected.stale < OFTEN:
        return []
    text = f"{percent(round(collected.stale, 2))} of the steps used gradients again that a step before had used"
    found = [clue(4.0, text, collected.stale, OFTEN)]
    if not collected.cleared:
        found.append(clue(1.0, "zero_grad was never called"))
    cosine = e.dynamics.cosine_late if e.dynamics else None
    if cosine is not None and cosine >= SAME_WAY:
        found.append(clue(0.5, f"successive gradients point the same way (cosine {num(cosine)})", cosine, SAME_WAY))
    return found


def _lost(collected: Accumulation) -> list[Clue]:
    if collected.lost < NEVER_USED:
        return []
    text = f"in {percent(round(collected.lost, 2))} of the steps zero_grad comes between backward and step"
    return [clue(4.5, text, collected.lost, NEVER_USED)]


def _undivided(e: Evidence, collected: Accumulation) -> list[Clue]:
    count, divisor = collected.backwards, collected.divisor
    if count is None or count < 2 or collected.optimizers > 1:
        return []
    if e.style.hf_trainer:  # it divides by the labels of all batches of a step, inside the model's loss
        return []
    if divisor is not None and divisor >= DIVIDED * count:
        return []
    if not (failed(e) or swings(e) or learned_little(e) or _rose(e)):
        return []
    text = f"{num(count)} backward calls for each step, and the loss is not divided by {num(count)}"
    if divisor is not None:
        text = f"{num(count)} backward calls for each step, and the loss is divided by {num(divisor)} only"
    return [clue(4.0 if count >= MANY else 3.0, text, divisor, count)]


def _rose(e: Evidence) -> bool:
    """Noisy or not: the loss of a run that trains does not end where it began."""
    course = e.course
    several = e.optimizer is not None and e.optimizer.optimizers > 1
    return course is not None and course.steps >= FEW_STEPS and not several and course.end >= course.start > 0


def remedies(e: Evidence) -> tuple[Remedy, ...]:
    collected = e.accumulation
    divided = [torch_docs.divide_loss, stability_guide.lr_with_accumulation, papers.rate_of_the_batch]
    if collected is None or (not _never_cleared(e, collected) and not _lost(collected)):
        return tuple(remedy(e) for remedy in (*divided, stability_guide.plain_order))
    several = accumulated(e) > 1
    return tuple(remedy(e) for remedy in (stability_guide.plain_order, *(divided if several else ())))


CAUSE = Cause("gradient-accumulation-bug", "Gradients are collected wrongly", __doc__, judge, remedies)
