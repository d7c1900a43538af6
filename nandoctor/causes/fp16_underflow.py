"""Gradients or updates in half precision flush to zero.

What happens
    The smallest number of float16 is 6e-8, and below 6e-5 it loses digits. Without
    loss scaling many gradients of a mixed-precision run are smaller and become 0.
    Weights kept in float16 or bfloat16 themselves do not move when an update is
    below a 2000th, or a 250th, of the weight: it is rounded away. Nothing fails,
    the loss just stops.

How to tell it from its neighbours
    vanishing-gradients: gradients are as small in float32, layer by layer towards
    the input. Here elements sit in the subnormal range of a half type, or have a
    gradient and do not move. loss-plateau: nothing of the kind.

What to do
    A GradScaler for float16 autocast; weights in float32, with autocast for speed;
    a larger scale where the scale itself is tiny.

Sources
    stability-guide (mixed precision only with GradScaler), nan-guide (fp32 until
    training is stable), micikevicius-2018 (loss scaling and float32 master weights)
"""

from ..evidence import Evidence, Underflow
from .bookkeeping import outranked
from .cause import Answer, Cause, Fact, Remedy, Verdict
from .course import (
    LITTLE,
    beyond_chance,
    learned,
    learned_little,
    learned_nothing,
    nothing_to_learn_from,
    readable,
    said,
)
from .domains import NEARLY_ALL, faint_weights
from .failure import failed
from .remedies import nan_guide, papers, stability_guide, torch_docs
from .remedies.this_run import half_weights
from .weighing import Clue, clue, weigh
from .wording import num, percent

FLUSHED = 0.5  # half of what is left of the gradients is subnormal: the rest of them is gone
MANY_FLUSHED = 0.9
STILL = 0.5  # of the elements with a gradient: a bfloat16 run that learns moves most of them
SOME_STILL, MOST_STILL = 1.5, 3.5  # weight of half of the elements standing still, and of nine in ten
ALL_ZERO = 0.3  # of the looks: nothing arrived at all
ROUNDED_AWAY = 0.75  # what else makes a loss of 0 at a model that knows nothing may be written on purpose
MUCH = 0.6  # of the first loss: whatever is rounded away, enough arrives
PRIOR = -2.0


def judge(e: Evidence) -> Answer:
    under = e.underflow
    if nothing_to_learn_from(e) and (e.precision.converts or e.precision.float16 or e.precision.bfloat16):
        what = "the loss is exactly 0 from the first step on, and gradients are, and types are converted on the way"
        return Verdict(ROUNDED_AWAY, f"{what[0].upper()}{what[1:]}.", (Fact(what, 0.0, step=0),))
    if e.precision.absorbed is not None and e.precision.absorbed.mostly:
        return None  # its zeros are x / inf
    if under is None or failed(e) or not (under.half_gradients or under.half_weights):
        return None
    clues = [*_gradients(e, under), *_weights(under)]
    if not clues:
        return None
    clues += [*_course(e), *outranked(e)]
    kind = under.dtype or "half precision"
    place = f", most of all at {under.worst_layer}" if under.worst_layer and under.half_gradients else ""
    return weigh(PRIOR, clues, f"Gradients or updates vanish in {kind}{place}: {clues[0].fact.fact}.")


def _gradients(e: Evidence, under: Underflow) -> list[Clue]:
    found: list[Clue] = []
    if under.dtype == "bfloat16":
        return found  # its range is that of float32: a gradient that is 0 in it is 0
    if under.flushed is not None and under.flushed >= FLUSHED:
        text = f"{percent(round(under.flushed, 3))} of the gradients that are left are subnormal in {under.dtype}"
        found.append(clue(2.5 if under.flushed >= MANY_FLUSHED else 1.5, text, under.flushed, FLUSHED))
    if under.zero_looks is not None and under.zero_looks >= ALL_ZERO:
        text = f"{percent(round(under.zero_looks, 3))} of the half-precision gradients looked at held nothing but zeros"
        found.append(clue(2.5, text, under.zero_looks, ALL_ZERO))
    half = e.precision.autocast == "float16" or (e.precision.autocast is None and _converted(e, under))
    if found and not e.precision.scaler and half:
        found.append(clue(1.0, "float16 autocast runs without a GradScaler"))
    faint = faint_weights(e)
    if found and faint is not None:
        text = f"{percent(round(faint[2], 2))} of the weights start next to nothing: no type holds what passes them"
        found.append(clue(-2.0, text, faint[2], NEARLY_ALL))
    scale = e.precision.scale_last
    if found and scale is not None and scale <= 1:
        found.append(clue(1.0, f"the loss scale is {num(scale)}", scale, 1))
    return found


def _converted(e: Evidence, under: Underflow) -> bool:
    """Weights in float32, gradients in float16: types are converted on the way, as autocast does."""
    return e.precision.converts and not under.half_weights and under.dtype == "float16"


def _weights(under: Underflow) -> list[Clue]:
    share = under.unmoved_half
    if share is None or share < STILL:
        return []
    text = f"{percent(round(share, 3))} of the {under.dtype} weights that had a gradient did not move"
    certain = min(1.0, (share - STILL) / (MANY_FLUSHED - STILL))
    return [clue(SOME_STILL + certain * (MOST_STILL - SOME_STILL), text, share, STILL)]


def _course(e: Evidence) -> list[Clue]:
    course, won = readable(e), learned(e)
    if course is None or won is None:
        return []
    if learned_nothing(e):
        return [clue(2.0, said(course), won, LITTLE)]
    beyond = beyond_chance(e)
    if learned_little(e) or (beyond is not None and beyond < LITTLE and won < MUCH):  # it learned the mean, not more
        return [clue(1.0, said(course), won, LITTLE)]
    floorless = won > 1  # a loss that goes below 0 has no level that shares of it could tell of
    return [clue(-1.0 if won < MUCH or floorless else -4.0, f"it learns: {said(course)}")]


def remedies(e: Evidence) -> tuple[Remedy, ...]:
    half = half_weights(e)
    ladder = [papers.master_weights] if half else []  # a GradScaler refuses float16 weights
    if e.precision.scaler:
        ladder.append(torch_docs.larger_scale)
    elif e.precision.float16:
        ladder.append(stability_guide.grad_scaler)
    if half == "bfloat16":
        ladder.append(papers.compensated_updates)
    if e.precision.float16:
        ladder += [torch_docs.bfloat16, papers.scale_loss]
    ladder.append(nan_guide.float32)
    if half and e.optimizer and e.optimizer.adaptive:
        ladder.append(papers.larger_epsilon)
    return tuple(remedy(e) for remedy in ladder)


CAUSE = Cause("fp16-underflow", "Half-precision gradients or updates vanish", __doc__, judge, remedies)
