"""Did the run learn anything, and does its loss swing? Asked by the causes of runs that do not fail with a NaN."""

import math

from ..evidence import Course, Evidence
from .wording import num, percent

FEW_STEPS = 40  # fewer say nothing about progress: warm-ups alone take as long
NOTHING = 0.05  # of the first loss: what changing the last bias alone wins
LITTLE = 0.3  # a run that won a third of its loss is learning, or has learned
CONSTANT = 0.97  # error against that of the best constant answer: a batch's own mean is known to 3 % or worse
SIGMAS = 2.0  # standard errors of what a constant answer costs
NEVER = 0.9  # nor was it ever better by a tenth
MUCH = 0.5  # better than a constant answer by half of its error: whatever the first batches happened to cost
AT_REST, RESTS = 1e-3, 0.7  # of the first gradient; of the run: what goes on learning has gradients
UNTIED = 0.17  # correlation that explains 3 %, as CONSTANT
BY_CHANCE = 4.0  # standard errors: hard data tie answers to targets loosely, and surely
LONG_ENOUGH = 100  # steps: large models need as many to learn how frequent each answer is
SAME = 1e-4  # of what samples differ by: no layer that starts by the rules takes more than nine parts in ten
HARDLY = 0.1  # better than a constant answer by less: whatever the loss fell by, it fell from an absurd start
NOISY = 0.5  # a start that single batches miss by half is no level: policy gradients, adversarial losses
ZIGZAG = -0.6  # lag-1 autocorrelation of changes; independent noise gives -0.5, a zigzag -1 (E35)
NOISE, SPREAD = -0.5, 0.71  # its mean and spread * sqrt(n) for independent losses (Bartlett)
CERTAIN = 2.5  # such spreads: one run in a hundred and sixty is as far by chance
FLIPS = 0.8  # share of changes of direction; independent noise gives 2/3
SMOOTH = 0.35  # share of changes of direction: losses of mixed batches turn around at every second step
WIDE = 0.5  # spread of the second half against all that was won: it is not converging
SLOW = 6.0  # variance of block means against independent losses: it swings slowly
PERIODIC = 0.3  # share of one frequency in all that moves; white noise of 100 losses stays below 0.15
UNMIXED = 0.25  # of all labels' span; eight labels drawn at random span three quarters of it or more
STILL = 1e-3  # all updates together, against the weights
BEATING = 0.5  # more than all other frequencies together
HIGH = 0.08  # height of the swing against the level of the loss: batches of one kind differ by less on average
NO_CHANCE = 8.0  # standard deviations: the best of some hundred periods of independent losses reaches five
IN_TURN = 0.15  # of what moves within a period: in a long run next to nothing is certain, too
FELT = 0.08  # spread against all that was won: what hovers in the last hundredth has converged
LATELY = 0.1  # of the run: that long ago it won something last
NO_TREND = 0.5  # of the way, over the second half


def readable(e: Evidence) -> Course | None:
    """The course of the loss, where it tells of progress: one optimizer, one level, steps enough, targets that stay."""
    course = e.course
    if course is None or course.steps < FEW_STEPS or course.start <= 0 or course.noise > NOISY:
        return None
    several = e.optimizer is not None and e.optimizer.optimizers > 1
    return None if several or (e.data is not None and e.data.targets_move) else course


def unmixed(e: Evidence) -> bool:
    """Batches of one class after another: what one teaches, the next takes back."""
    return e.data is not None and e.data.mixed is not None and e.data.mixed <= UNMIXED and not e.widens


def answers_tell_nothing(e: Evidence) -> bool:
    """The loss, whichever it is, stays what it was when the answers of a batch are exchanged among its samples."""
    found = e.exchanged
    if found is None or found.since or e.steps < LONG_ENOUGH or plays(e):
        return False
    if (e.optimizer is not None and e.optimizer.optimizers > 1) or (e.data is not None and e.data.targets_move):
        return False
    if e.fit is not None and e.fit.end < NEVER:  # no better than a constant answer is asked of both
        return False
    return found.tie < UNTIED and found.certain < BY_CHANCE


def no_better_than_constant(e: Evidence) -> bool:
    """One answer for every sample would have done as well, at the end and at any time before (E34)."""
    if answers_tell_nothing(e):
        return True
    fit = e.fit
    return fit is not None and fit.end >= min(CONSTANT, max(NEVER, 1 - SIGMAS * fit.noise)) and fit.best >= NEVER


def beyond_chance(e: Evidence) -> float | None:
    """Share of the error of a constant answer that the model does without at the end."""
    return None if e.fit is None else 1 - e.fit.end


def learned(e: Evidence) -> float | None:
    """Share of the first loss that was won until the end."""
    course = readable(e)
    if course is None:
        return None
    early = e.loss.early if e.loss is not None else None
    if e.fit is None and course.progress < LITTLE and SIGMAS * course.start_noise >= LITTLE:
        return None  # a few noisy batches: where it began is not known well enough to say that little was won
    if early is None or not early > 0 or course.progress >= LITTLE:
        return course.progress
    won = min(course.progress, 1 - course.end / early)  # the first three batches alone are noise
    beyond = beyond_chance(e)
    if e.fit is not None and e.fit.alone and beyond is not None and beyond >= HARDLY:
        return max(won, 1 - e.fit.end / e.fit.start)  # against its own batches: what these cost is no noise then
    return won


def a_term_is_learned(e: Evidence) -> bool:
    """The sum of several terms may rise while one of them is learned: a codebook's follow what is encoded."""
    return e.fit is None and e.best_term is not None and e.best_term <= 1 - LITTLE


def learned_nothing(e: Evidence) -> bool:
    won = learned(e)
    if a_term_is_learned(e):
        return False
    return answers_tell_nothing(e) or (won is not None and (won < NOTHING or no_better_than_constant(e)))


def made_alike(e: Evidence) -> str | None:
    """The layer at which all samples become the same at once, and stay so: what they are told apart by was thrown away
    right before it, by no weight and no flat activation.
    """
    spread, weights = e.spread, e.weights
    if spread is None or spread.at_once >= SAME or (spread.left_late or 0.0) >= SAME or not learned_little(e):
        return None
    flat = e.depth is not None and e.depth.saturating > 0
    small = weights is None or weights.worst_gain is None or weights.worst_gain < SAME or weights.zero_layer is not None
    return None if flat or small else spread.layer


def comes_to_rest(e: Evidence) -> bool:
    """No gradient is left at a loss that is not even half of the first: one constant answer is such a place."""
    course, gradients = readable(e), e.gradients
    if course is None or gradients is None or gradients.end is None or e.fit is not None:
        return False
    still = gradients.end <= AT_REST * gradients.first
    return still and course.stalled >= RESTS and course.progress < MUCH


def learned_little(e: Evidence) -> bool:
    won, beyond = learned(e), beyond_chance(e)
    if a_term_is_learned(e):
        return False
    if comes_to_rest(e) or answers_tell_nothing(e):
        return True
    if won is None or (beyond is not None and beyond >= MUCH):
        return False
    return won < LITTLE or (beyond is not None and beyond < HARDLY)


def plays(e: Evidence) -> bool:
    """It makes its own data: acts without a graph, and learns from what came of it by a loss of several terms, or of
    one that is not understood. Such a loss may stand or rise while the policy learns.
    """
    played = e.activations is not None and e.activations.played
    return played and (e.fit is None or e.fit.beside)


def nothing_to_learn_from(e: Evidence) -> bool:
    """The loss is exactly 0 at every step, and in the end every gradient is: no training begins so well."""
    loss, gradients = e.loss, e.gradients
    if loss is None or not loss.zero or loss.steps < FEW_STEPS:
        return False
    return gradients is None or gradients.end == 0


def said(course: Course) -> str:
    """In words: from where to where, and since when not further."""
    text = f"the loss went from {num(course.start)} to {num(course.end)} in {course.steps} steps"
    if course.stalled >= 0.3:
        text += f" and won nothing in the last {percent(round(course.stalled, 2))} of them"
    return text


def stands_still(e: Evidence) -> bool:
    """Weights that do not move make no loss swing: it is that of one batch and another."""
    return e.trained is not None and e.trained.travelled is not None and e.trained.travelled < STILL


def swings(e: Evidence) -> bool:
    """A wide second half that goes nowhere, and is not the noise of independent batches."""
    course = readable(e)
    if course is None or course.swing < WIDE or course.falling < -NO_TREND or stands_still(e):
        return False
    zigzag = zigzags(course)
    flips = course.flips is not None and course.flips >= FLIPS
    smooth = course.flips is not None and course.flips <= SMOOTH
    if not (zigzag or flips) and course.stalled < LATELY and course.falling < -NO_TREND / 2:
        return False  # it rose, came back, and was never as low as at the end
    return zigzag or flips or smooth or (course.slow is not None and course.slow >= SLOW)


def zigzags(course: Course) -> bool:
    """Successive changes turn around more often than those of so many independent losses would by chance."""
    chance = NOISE - CERTAIN * SPREAD / math.sqrt(max(course.steps // 2, 1))
    return course.autocorrelation is not None and course.autocorrelation <= min(ZIGZAG, chance)


def pulled(e: Evidence) -> bool:
    """Batches of sorted targets, and one in ten of the late ones costs more than the first did: what the others teach
    is wrong for it.
    """
    span, loss = e.data.target_span if e.data is not None else None, e.loss
    if span is None or span > UNMIXED or e.bad is not None or loss is None:
        return False
    if loss.late_high is None or loss.early is None:
        return False
    return loss.steps >= FEW_STEPS and 0 < loss.early < loss.late_high


def beating(e: Evidence) -> Course | None:
    """The course of a loss that one frequency carries: its swing is the noise, whatever the blocks say."""
    course = e.course
    several = e.optimizer is not None and e.optimizer.optimizers > 1
    if course is None or course.steps < FEW_STEPS or course.start <= 0 or several or course.periodic < BEATING:
        return None
    return course


def in_turn(e: Evidence) -> bool:
    """The loss leaps and is learned down again, round after round, at the same places of a period."""
    course, turns = readable(e), e.turns
    if course is None or turns is None or stands_still(e) or e.widens:  # each new class costs more, and is learned
        return False
    return turns.certain >= NO_CHANCE and turns.explained >= IN_TURN and turns.height >= HIGH


def periodic(e: Evidence) -> bool:
    """One frequency, not that of the epochs, carries the loss up and down by a good part of its level."""
    course = readable(e) or beating(e)
    return course is not None and course.periodic >= PERIODIC and course.amplitude >= HIGH and course.swing >= FELT
