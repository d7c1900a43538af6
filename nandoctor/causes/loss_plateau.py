"""No progress, and nothing is numerically wrong.

What happens
    Loss, gradients and weights are finite, and the loss stays where it is: a
    learning rate far too small or decayed too soon, layers that no optimizer moves,
    labels that do not belong to their inputs, a graph that is cut, an output that
    cannot express the target, answers and targets whose shapes are broadcast.

How to tell it from its neighbours
    vanishing-gradients, dead-relu, fp16-underflow and loss-oscillation have traces
    of their own, and are named instead where they are seen. A run that has converged
    stalls too, far below its start: that is healthy.

What to do
    Find what is not trained; raise the learning rate where updates are tiny; fit one
    batch by heart to test model and loss; look at the labels.

Sources
    nan-guide (stable, converging slowly: a higher rate), stability-guide
"""

from ..evidence import Course, Evidence, Fit
from . import dead_relu, fp16_underflow, vanishing_gradients
from .bookkeeping import LIKELY, OUTRANKED, from_the_start, outranked
from .cause import Answer, Cause, Fact, Remedy, Verdict
from .course import (
    CONSTANT,
    LITTLE,
    NOTHING,
    UNTIED,
    a_term_is_learned,
    answers_tell_nothing,
    learned,
    learned_little,
    made_alike,
    no_better_than_constant,
    nothing_to_learn_from,
    plays,
    readable,
    said,
    swings,
    unmixed,
)
from .domains import swallowed
from .failure import HOT_RATIO, failed
from .lr_too_high import stuck_hot
from .remedies import monash_stability, nan_guide, nan_root_cause, papers, stability_guide, torch_docs
from .weighing import Clue, clue, weigh
from .wording import num, percent

FROZEN = 1e-5  # update against weight: in 1000 steps a weight moves by a hundredth (E15: below 1e-6 is frozen)
STANDS = 0.02  # all updates together against the weights: nothing has moved
HARDLY_ANY = 0.01  # of the parameters: the adapters of a fine-tuning are more, and win more
UNTRAINED = 0.5  # of the parameters get no update
CREPT = 0.05  # all updates together; a run that learns moves its weights by tenths of themselves
STRAIGHT = 0.5  # cosine of successive gradients: no valley has been reached, nothing turns
TRAINS = 0.1  # of the first loss
FLOOR = 1.0  # no verdict by itself
PATIENCE = 150  # steps; the study behind E34 waited 300, and took shorter stalls for converged runs
SOON = 100  # steps: large models need as many to learn how frequent each answer is, and warm-ups last longer
STALLED = 0.5  # of the run without winning anything
DECAYED = 1e-3  # of the peak: a schedule that ended too soon
SURELY_UPHILL = 0.9  # of the updates go up the gradient
CHANCE = 0.9  # of the loss of guessing
HALF = 0.5  # of the run; of the error of a constant answer
AGREE = 0.1  # cosine of successive gradients: at a minimum they are noise, around 0
NAMED = 0.8  # a neighbour that is as sure has a trace of its own
PLAIN = 2.0  # an optimizer that was not given the model: no statistic of the loss is needed
ALL_ZERO = 0.7  # a margin that is kept from the start would be 0, too
NO_STEP = 0.85  # a program may measure gradients alone
CROSSED = 0.95  # the shapes were seen
IDLE = 0.8  # a model may be frozen by leaving it out
PRIOR = -1.5


def judge(e: Evidence) -> Answer:
    course, won = readable(e), learned(e)
    if nothing_to_learn_from(e) and not isinstance(fp16_underflow.CAUSE.judge(e), Verdict):
        what = "the loss is exactly 0 from the first step on, and gradients are"
        return Verdict(ALL_ZERO, f"Nothing to learn from: {what}.", (Fact(what, 0.0, step=0),))
    if e.accumulation is not None and e.accumulation.never_stepped:
        count = e.accumulation.never_stepped
        what = f"backward was called {count} times, and no optimizer ever made a step"
        return Verdict(NO_STEP, f"Nothing is trained: {what}.", (Fact(what, count, 0),))
    stands = won is None or learned_little(e)  # what learns without it may well have been frozen by leaving it out
    if e.trained is not None and e.trained.idle and not failed(e) and e.steps >= SOON and stands:
        what = f"{e.trained.idle[0]} is trained with others, and none of its parameters ever moved"
        return Verdict(IDLE, f"A model that stays as it was: {what}.", (Fact(what, 0.0),))
    if failed(e):
        return None
    if e.crossed is not None:
        n = e.crossed.rows
        what = f"answers [{n}, 1] and targets [{n}] become [{n}, {n}]: each answer is compared with every target"
        facts = (Fact(what, n, step=e.crossed.step),)
        return Verdict(CROSSED, f"The loss pulls all answers to the mean of the targets: {what}.", facts)
    if answers_tell_nothing(e) and e.exchanged is not None:
        what = "the loss stays what it was when the answers of a batch are exchanged among its samples"
        clues = [clue(3.0, f"{what}: they tell nothing of the targets", e.exchanged.tie, UNTIED)]
        clues += [*_why(e), *_against(e), *outranked(e), *from_the_start(e)]
        return weigh(PRIOR, clues, f"Nothing learned: {said(e.course) if e.course else what}.")
    if course is None or won is None:
        return None
    clues = [*_course(e, course, won)]
    why = _why(e)
    if not clues and _cut_short(e) and e.trained is not None:
        text = f"for {percent(round(e.trained.spent, 2))} of the run lr was next to nothing, and much was left to learn"
        clues = [clue(2.5, text, e.trained.spent, HALF)]
    if not clues and not any(each.weight >= PLAIN for each in why):
        return None
    clues += [*why, *_against(e), *outranked(e), *from_the_start(e)]
    if course.steps < SOON and not any(each.weight >= PLAIN for each in why):
        clues.append(clue(-2.5, f"{course.steps} steps are too few to call it a standstill", course.steps, SOON))
    return weigh(PRIOR, clues, f"No progress: {said(course)}.")


def _course(e: Evidence, course: Course, won: float) -> list[Clue]:
    if plays(e) or a_term_is_learned(e):
        return []
    if no_better_than_constant(e) and e.fit is not None and _stays(e, e.fit, course, won):
        text = f"the error is {percent(round(e.fit.end, 2))} of what one constant answer for all samples would cost"
        return [clue(3.0, text, e.fit.end, CONSTANT)]
    if won < NOTHING:
        return [clue(2.5, f"{percent(round(max(won, 0.0), 3))} of the first loss was won", won, NOTHING)]
    if won < LITTLE and course.stalled >= STALLED and course.stalled_steps >= PATIENCE:
        text = f"{percent(round(won, 3))} of the first loss was won, nothing in the last {percent(course.stalled)}"
        return [clue(1.7 if won < TRAINS or _level_known(e, course) else FLOOR, text, won, LITTLE)]
    if won < LITTLE and course.falling >= 0 and course.steps >= 2 * PATIENCE:  # single blocks are lower by chance
        text = f"{percent(round(won, 3))} of the first loss was won, and over the second half it does not fall"
        return [clue(1.7 if won < TRAINS or _level_known(e, course) else FLOOR, text, won, LITTLE)]
    if won < LITTLE and _creeps(e):
        return [clue(2.5, f"{percent(round(won, 3))} of the first loss was won, always in the same direction", won)]
    expected = e.loss.expected if e.loss else None
    from_labels = e.loss is not None and (e.loss.expected_from or "").startswith("ln")
    if expected and from_labels and CHANCE * expected <= course.end <= 1.2 * expected and course.stalled >= STALLED:
        return [clue(1.3, f"the loss stays at {num(course.end)}: what guessing gives is {num(expected)}", course.end)]
    return []


def _level_known(e: Evidence, course: Course) -> bool:
    """What guessing costs, from where the run began: else a loss that fell by a fifth may have reached its floor."""
    expected = e.loss.expected if e.loss and (e.loss.expected_from or "").startswith("ln") else None
    return (expected is not None and course.start >= CHANCE * expected) or e.fit is not None or e.exchanged is not None


def _stays(e: Evidence, fit: Fit, course: Course, won: float) -> bool:
    """A run that wins a tenth and goes on winning trains, however slowly. With several terms in the loss a mean that
    took long to learn is a start, too; where it is all that is asked, it is too little.
    """
    if won < TRAINS:
        return True
    over = e.trained is not None and e.trained.lr_late is not None and e.trained.lr_late < DECAYED
    if fit.alone and course.falling >= -TRAINS and course.steps >= SOON:  # single blocks are lower by chance
        return True
    return (course.stalled >= STALLED or over) and (won < LITTLE or fit.alone)


def _creeps(e: Evidence) -> bool:
    """The way down is straight and long, and hardly a step of it has been made."""
    cosine = e.dynamics.cosine_late if e.dynamics else None
    travelled = e.trained.travelled if e.trained else None
    won = learned(e)
    slow = won is not None and won < TRAINS  # what falls by more is slow, and trains
    return slow and cosine is not None and cosine >= STRAIGHT and travelled is not None and travelled < CREPT


def _cut_short(e: Evidence) -> bool:
    """The schedule ended before the training was half done, at an answer not twice as good as a constant one, while
    the gradients of successive batches still agreed on where to go.
    """
    if e.trained is None or e.trained.spent < HALF or e.steps < SOON:
        return False
    cosine = e.dynamics.cosine_late if e.dynamics else None
    return e.fit is not None and e.fit.end >= HALF and cosine is not None and cosine >= AGREE


def _why(e: Evidence) -> list[Clue]:
    found: list[Clue] = []
    trained, optimizer = e.trained, e.optimizer
    if trained is not None and trained.forgotten is not None and trained.forgotten >= UNTRAINED:
        names = ", ".join(trained.left_out[:3])
        text = f"{percent(round(trained.forgotten, 2))} of the parameters want a gradient and never moved: {names}"
        found.append(clue(PLAIN, text, trained.forgotten, UNTRAINED))
    elif trained is not None and trained.moved is not None and trained.moved < HARDLY_ANY and learned_little(e):
        text = f"only {percent(trained.moved)} of the parameters move at all"
        found.append(clue(PLAIN + 0.5, text, trained.moved, HARDLY_ANY))
    elif trained is not None and trained.moved is not None and 1 - trained.moved >= UNTRAINED:
        names = ", ".join(trained.left_out[:3])
        text = f"{percent(round(1 - trained.moved, 2))} of the parameters never moved: {names}"
        found.append(clue(1.5, text, 1 - trained.moved, UNTRAINED))
    if e.flow is not None and e.flow.unfed is not None:
        text = f"{e.flow.unfed} never gets a gradient though its output does, at every one of its uses: its input is 0"
        found.append(clue(PLAIN, text, layer=e.flow.unfed))
    if made_alike(e) is not None and e.spread is not None:
        text = f"at {e.spread.layer} samples differ by {num(e.spread.at_once)} of what they did right before it"
        text += ": what tells them apart is thrown away there"
        found.append(clue(PLAIN, text, e.spread.at_once, layer=e.spread.layer))
    if e.flow is not None and e.flow.unreached is not None:
        text = f"{e.flow.unreached}, the first layer, gets gradients and its weight exactly 0: it is given zeros"
        found.append(clue(PLAIN, text, layer=e.flow.unreached))
    if trained is not None and trained.travelled is not None and trained.travelled < STANDS:
        text = f"all updates together are {percent(trained.travelled)} of the weights"
        found.append(clue(1.5, text, trained.travelled, STANDS))
    elif optimizer is not None and optimizer.update_ratio is not None and optimizer.update_ratio < FROZEN:
        text = f"an update is {percent(optimizer.update_ratio)} of the weights"
        found.append(clue(1.0, text, optimizer.update_ratio, FROZEN))
    if trained is not None and trained.lr_late is not None and trained.lr_late < DECAYED:
        found.append(clue(0.7, f"the schedule has brought lr to {num(trained.lr_late)} of its peak", trained.lr_late))
    uphill = e.dynamics.uphill if e.dynamics else None
    if uphill is not None and uphill >= SURELY_UPHILL:
        text = f"{percent(round(uphill, 2))} of the updates go up the gradient: the sign is wrong"
        found.append(clue(2.0, text, uphill, SURELY_UPHILL))
    return found


def _against(e: Evidence) -> list[Clue]:
    found: list[Clue] = []
    for cause in (dead_relu.CAUSE, vanishing_gradients.CAUSE, fp16_underflow.CAUSE):
        answer = cause.judge(e)
        enough = LIKELY if cause is fp16_underflow.CAUSE else NAMED  # rounding was seen, by element
        if isinstance(answer, Verdict) and answer.confidence >= enough:
            stopped = cause is dead_relu.CAUSE and e.flow is not None and e.flow.blocked is not None
            found.append(clue(-4.0 if stopped else -1.5, f"{cause.id} is seen: {answer.evidence[0].fact}"))
            break
    if swallowed(e):
        found.append(clue(OUTRANKED, "fp16-overflow explains it: the squares of the data pass 65504"))
    if stuck_hot(e):
        found.append(clue(-2.0, "updates as large as the weights threw it there: the learning rate"))
    if unmixed(e):
        found.append(clue(-4.0, "batches are not mixed: each holds few of the classes"))
    elif swings(e) and not plays(e):
        found.append(clue(-1.0, "the loss swings"))
    if e.depth is not None and e.depth.ratio is not None and e.depth.ratio < 1e-4:
        found.append(clue(-0.7, f"gradients of {e.depth.smallest_layer} are {num(e.depth.ratio)} of the largest"))
    return found


def remedies(e: Evidence) -> tuple[Remedy, ...]:
    trained, optimizer = e.trained, e.optimizer
    ratio = optimizer.update_ratio if optimizer else None
    still = max(trained.forgotten or 0.0, 1 - (1.0 if trained.moved is None else trained.moved)) if trained else 0.0
    untrained = still >= UNTRAINED
    stands = trained is not None and trained.travelled is not None and trained.travelled < STANDS
    decayed = trained is not None and trained.lr_late is not None and trained.lr_late < DECAYED
    hot = ratio is not None and ratio >= HOT_RATIO
    ladder = [torch_docs.check_graph, torch_docs.all_parameters] if untrained else []
    if e.crossed is not None:
        ladder.insert(0, torch_docs.one_shape)
    if e.dynamics is not None and (e.dynamics.uphill or 0) >= SURELY_UPHILL:
        ladder.insert(0, torch_docs.downhill)
    if decayed:
        ladder.append(nan_guide.warm_up_cosine)
    ladder.append(nan_guide.lower_lr if hot and not stands else nan_guide.higher_lr)
    ladder += [papers.range_test, monash_stability.normalise, nan_guide.labels]
    if not untrained:
        ladder.append(torch_docs.check_graph)
    ladder += [stability_guide.warm_up, nan_root_cause.one_cycle, nan_guide.larger_batch]
    return tuple(remedy(e) for remedy in ladder)


CAUSE = Cause("loss-plateau", "No progress, and nothing is numerically wrong", __doc__, judge, remedies)
