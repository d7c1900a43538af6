"""The optimizer's denominator underflows, or its hyperparameters are pathological.

What happens
    Adam divides by sqrt(v) + eps. Where a gradient has been 0 and eps is 0, or so
    small that the type of the weights rounds it to 0 (below 3e-8 in float16), that is
    0 / 0, or a step far beyond lr. A beta2 too small for its beta1, or a momentum of
    1 and more, let single steps grow without bound.

How to tell it from its neighbours
    lr-too-high: with lr as it is, no element should move by more than about 3 lr a
    step; here some move much further, or the update is NaN while its gradient is
    finite. fp16-underflow: gradients are lost, not the denominator.

What to do
    eps 1e-8 for float32, 1e-4 to 1e-6 for half-precision weights; betas 0.9 and
    0.999; momentum 0.9.

Sources
    monash-stability and nan-guide (eps 1e-8), kingma-2015 (betas), reddi-2018
"""

import math

from ..evidence import Denominator, Evidence
from .cause import Answer, Cause, Remedy
from .course import learned_little, swings
from .failure import failed
from .remedies import monash_stability, nan_guide, nan_root_cause, papers
from .remedies.this_run import half_weights
from .weighing import Clue, clue, weigh
from .wording import num, percent

FAR = 3.0  # times the bound of E18; a healthy Adam stays within it, weight decay adds little
VERY_FAR = 100.0
TINY_EPS = 1e-12  # below what torch, its papers and guides ever use
HUGE_EPS = 1e-2  # sqrt(v) of ordinary gradients lies below: the step is lr * g / eps
MOST = 0.9
FORGETFUL = 0.5  # torch's defaults are 0.999 and 0.99, the lowest ever advised 0.9
ENDLESS = 0.999  # of momentum; guides give 0.9 to 0.99
PRIOR = -1.5


def judge(e: Evidence) -> Answer:
    found = e.denominator
    if found is None or e.optimizer is None:
        return None
    if not (failed(e) or swings(e) or learned_little(e) or unmeant(found)):
        return None
    clues = [*([] if _unused(e, found) else _eps(e, found)), *_betas(found)]
    if not clues:
        return None
    clues += _steps(e, found)
    return weigh(PRIOR, clues, f"{e.optimizer.name}: {clues[0].fact.fact}.")


def _eps(e: Evidence, found: Denominator) -> list[Clue]:
    eps = found.eps
    if eps is None:
        return []
    clues: list[Clue] = []
    if found.vanishes and eps > 0:
        clues.append(clue(2.5, f"eps {num(eps)} rounds to 0 in {found.dtype}", eps, 6e-8))
    elif eps < TINY_EPS and not _harmless(e, found):
        clues.append(clue(2.5, f"eps is {num(eps)}", eps, 1e-8))
    if clues and found.zeros:
        clues.append(clue(1.0, f"{percent(round(found.zeros, 3))} of the denominators are exactly 0", found.zeros, 0))
    if eps >= HUGE_EPS and (found.below_eps or 0) >= MOST:
        text = f"eps {num(eps)} is above {percent(round(found.below_eps or 0, 3))} of the denominators"
        clues.append(clue(2.0, text, eps, 1e-8))
    bad = e.bad
    if clues and bad is not None and (bad.phase == "optimizer" or bad.writer == "optimizer"):
        clues.append(clue(2.0, "the update was not finite, its gradient was", step=bad.step))
    return clues


def _harmless(e: Evidence, found: Denominator) -> bool:
    """Nothing failed, and no element ever moved by more than Adam's own bound: where the denominator is 0, so is what
    it divides.
    """
    return not failed(e) and found.largest is not None and found.bound is not None and found.largest <= found.bound


def _unused(e: Evidence, found: Denominator) -> bool:
    """No gradient ever came: then 0 / eps is 0 for every eps above it, and what stopped the gradient is to blame."""
    return not failed(e) and not found.vanishes and found.zeros == 1 and not found.largest


def _betas(found: Denominator) -> list[Clue]:
    clues: list[Clue] = []
    if endless(found):
        clues.append(clue(3.0, f"momentum is {num(found.momentum)}: steps add up without end", found.momentum, 0.9))
    if found.beta1 is None and unaveraged(found):
        clues.append(clue(2.5, f"alpha is {num(found.beta2)}: every step is +-lr, however small the gradient"))
    if found.beta1 is not None and found.beta2 is not None and found.beta1 > 0:
        if unstable(found):
            text = f"beta1 {num(found.beta1)} is above the root of beta2 {num(found.beta2)}: Adam need not converge"
            clues.append(clue(2.5, text, found.beta1, math.sqrt(found.beta2)))
        elif unaveraged(found):
            clues.append(clue(2.5, f"beta2 is {num(found.beta2)}: every step is +-lr, however small the gradient"))
        elif found.beta1 >= 0.99:
            clues.append(clue(1.5, f"beta1 is {num(found.beta1)}", found.beta1, 0.9))
    return clues


def unmeant(found: Denominator) -> bool:
    """Numbers that nobody chooses on purpose: they are worth a word however far the run came with them."""
    return unaveraged(found) or endless(found) or unstable(found)


def unstable(found: Denominator) -> bool:
    """beta1 above the root of beta2, as when the two are exchanged: the bound of Adam's proof does not hold."""
    return found.beta1 is not None and found.beta2 is not None and found.beta1 > math.sqrt(max(found.beta2, 0.0)) > 0


def endless(found: Denominator) -> bool:
    """A momentum that forgets nothing within a thousand steps: nobody means that, whatever came of it so far."""
    return found.momentum is not None and found.momentum >= ENDLESS


def unaveraged(found: Denominator) -> bool:
    """beta2 (RMSprop's alpha) so small that the denominator is the last gradient alone: nobody means that."""
    return found.beta2 is not None and found.beta2 < FORGETFUL


def _steps(e: Evidence, found: Denominator) -> list[Clue]:
    if found.largest is None or found.bound is None or e.optimizer is None or not e.optimizer.adaptive:
        return []
    if found.eps is not None and found.eps >= HUGE_EPS and (found.below_eps or 0) >= MOST and found.largest < 1:
        text = f"no element moved by more than {num(found.largest)} times lr; the first step of Adam is 1 times lr"
        return [clue(1.5, text, found.largest, 1.0)]
    if found.largest > FAR * found.bound:
        text = f"single elements moved by {num(found.largest)} times lr; {num(found.bound)} is the most that is sound"
        weight = 1.5 if found.largest < VERY_FAR * found.bound else 3.0
        return [clue(weight, text, found.largest, found.bound, found.broken_at)]
    return [clue(-0.5, f"no element moved by more than {num(found.largest)} times lr", found.largest, found.bound)]


def remedies(e: Evidence) -> tuple[Remedy, ...]:
    found = e.denominator
    adaptive = e.optimizer is None or e.optimizer.adaptive
    of_eps = adaptive and (found is None or bool(_eps(e, found)))
    ladder = [papers.larger_epsilon] if of_eps else []
    if found is None or _betas(found):
        ladder.append(papers.default_betas)
    if half_weights(e):
        ladder.append(papers.master_weights)
    ladder += [monash_stability.adamw, nan_guide.lower_lr, nan_root_cause.check_weights, nan_guide.start_over]
    return tuple(remedy(e) for remedy in ladder)


CAUSE = Cause("optimizer-epsilon", "The optimizer's denominator underflows", __doc__, judge, remedies)
