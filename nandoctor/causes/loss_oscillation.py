"""The loss swings without converging, and nothing diverges.

What happens
    Each step jumps across the valley and back: the loss goes up and down around a
    level that it could leave. A step size near the limit, too much momentum, a batch
    far too small, a schedule that swings, or batches that are not mixed do it.

How to tell it from its neighbours
    lr-too-high: there the loss or the weights leave their path. The noise of batches
    is independent from step to step; a swing is not. A loss that hovers while its
    trend still falls is at the edge of stability and healthy. loss-plateau: level.

What to do
    Lower or decay the learning rate, a larger batch, less momentum, shuffle.

Sources
    stability-guide (oscillates, no convergence), monash-stability
    (ReduceLROnPlateau), nan-guide (larger batch)
"""

from ..evidence import Course, Evidence
from .bookkeeping import from_the_start, outranked
from .cause import Answer, Cause, Remedy
from .course import (
    FLIPS,
    HIGH,
    IN_TURN,
    SLOW,
    UNMIXED,
    WIDE,
    ZIGZAG,
    beating,
    in_turn,
    no_better_than_constant,
    periodic,
    pulled,
    readable,
    swings,
    unmixed,
    zigzags,
)
from .failure import HOT_RATIO, failed, max_ratio, non_finite, settled
from .remedies import monash_stability, nan_guide, nan_root_cause, papers
from .weighing import Clue, clue, weigh
from .wording import num, percent

TURNS = -0.1  # median cosine of successive gradients: back and forth (E14)
VERY_HIGH = 0.3  # of the level
UPHILL = 0.25  # share of updates along the gradient instead of against it; healthy momentum stays below 0.15
TURNED = 0.7  # curvature along the update, 1 = the gradient turned around
PRIOR = -1.0


def judge(e: Evidence) -> Answer:
    if unmixed(e) and not non_finite(e) and not settled(e) and e.course is not None:
        course, clues = e.course, [*_order(e)]
    elif e.course is not None and pulled(e) and not failed(e):
        course, clues = e.course, [*_sorted(e)]
    elif failed(e) or not (swings(e) or periodic(e) or in_turn(e)):
        return None
    else:
        found = readable(e) or beating(e)
        if found is None:
            return None
        course, clues = found, [*_sorted(e)]
    clues += [*_width(e, course), *_shape(course), *_gradients(e), *outranked(e), *from_the_start(e)]
    return weigh(PRIOR, clues, f"The loss swings around {num(course.end)} and does not converge.")


def _order(e: Evidence) -> list[Clue]:
    mixed = e.data.mixed if e.data is not None else None
    text = "batches are not mixed: each holds few of the classes, and the next holds others"
    return [clue(3.5, text, mixed, UNMIXED)]


def _sorted(e: Evidence) -> list[Clue]:
    span = e.data.target_span if e.data is not None else None
    if span is None or span > UNMIXED or not (swings(e) or pulled(e)):
        return []
    text = f"the targets of a batch span {percent(round(span, 2))} of all: they are sorted, and each batch pulls away"
    return [clue(2.5, text, span, UNMIXED)]


def _width(e: Evidence, course: Course) -> list[Clue]:
    found: list[Clue] = []
    if swings(e):
        text = f"over the second half the loss swings by {percent(round(course.swing, 2))} of all that was won"
        sharp = zigzags(course) or (course.flips or 0) >= FLIPS
        found.append(clue(1.0 if sharp else 0.5, text, course.swing, WIDE))
    if found and no_better_than_constant(e) and not (periodic(e) or in_turn(e)):
        found.append(clue(-2.0, "nothing was learned that it could lose: batches differ by as much"))
    if in_turn(e) and e.turns is not None:
        text = f"every {e.turns.period} steps the loss leaps and is learned down again: "
        text += f"{percent(round(e.turns.explained, 2))} of what moves is that profile"
        found.append(clue(3.0, text, e.turns.explained, IN_TURN))
    elif periodic(e) and course.period is not None:
        text = f"the loss swings every {num(course.period)} steps, by {percent(course.amplitude)} of its level"
        found.append(clue(2.0 if course.amplitude >= VERY_HIGH else 1.5, text, course.amplitude, HIGH))
    return found


def _shape(course: Course) -> list[Clue]:
    found: list[Clue] = []
    if course.autocorrelation is not None and zigzags(course):
        text = f"changes of the loss alternate (autocorrelation {num(course.autocorrelation)})"
        found.append(clue(1.5, text, course.autocorrelation, ZIGZAG))
    elif course.flips is not None and course.flips >= FLIPS:
        text = f"{percent(round(course.flips, 2))} of the changes reverse the one before"
        found.append(clue(1.0, text, course.flips, FLIPS))
    if course.slow is not None and course.slow >= SLOW:
        found.append(clue(0.3, "it swings slowly: losses near one another go together", course.slow, SLOW))
    return found


def _gradients(e: Evidence) -> list[Clue]:
    found: list[Clue] = []
    cosine = e.dynamics.cosine_late if e.dynamics else None
    if cosine is not None and cosine <= TURNS:
        found.append(clue(1.5, f"successive gradients point against each other (cosine {num(cosine)})", cosine, TURNS))
    bend = e.dynamics.curvature_late if e.dynamics else None
    if bend is not None and bend >= TURNED:
        found.append(clue(0.7, f"each step turns the gradient around ({num(bend)} of the way)", bend, TURNED))
    uphill = e.dynamics.uphill if e.dynamics else None
    if uphill is not None and uphill >= UPHILL:
        text = f"{percent(round(uphill, 2))} of the updates go up the gradient of the batch before: batches pull apart"
        found.append(clue(1.2, text, uphill, UPHILL))
    ratio = max_ratio(e)
    if ratio is not None and ratio >= HOT_RATIO:
        found.append(clue(0.5, f"updates reach {percent(ratio)} of the weights", ratio, HOT_RATIO))
    return found


def remedies(e: Evidence) -> tuple[Remedy, ...]:
    ladder = [nan_guide.lower_lr, papers.decay, monash_stability.reduce_on_plateau]
    if e.denominator is not None and (e.denominator.momentum or 0) > papers.MOMENTUM:
        ladder.insert(1, papers.default_betas)
    clipped = e.gradients is not None and e.gradients.max_norm is not None
    ladder += [nan_guide.larger_batch, papers.grow_batch, nan_guide.clip_half if clipped else nan_guide.clip_one]
    ladder += [nan_guide.warm_up_cosine, nan_root_cause.one_cycle, monash_stability.normalise]
    return tuple(remedy(e) for remedy in ladder)


CAUSE = Cause("loss-oscillation", "The loss swings and does not converge", __doc__, judge, remedies)
