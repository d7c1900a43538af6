"""The step size is too large for the curvature.

What happens
    Each update overshoots: it lands higher on the other side of the valley than it
    started. The gradient there is larger, so the next update is larger too, and
    loss, gradients and weights grow until a number leaves its type. The operation
    that makes the first NaN is where it shows, not why. With Adam the loss often
    jumps to a plateau and stays there without any NaN. A schedule whose peak is too
    high, a missing warm-up and one hot parameter group are the same fault.

How to tell it from its neighbours
    exploding-gradients: updates were small against the weights until one batch.
    data-outlier: the batch itself is loud. bad-initialization: the first loss is
    absurd already. fp16-overflow: the loss was flat, only the type was too small.
    Here updates exceed about 3 % of the weights for steps before the failure.

What to do
    A tenth of the learning rate first. Then clipping and a warm-up, which allow a
    higher rate again.

Sources
    nan-guide (learning rate by what is seen), stability-guide (warm-up),
    nan-root-cause (ladder of clips, OneCycleLR), monash-stability
"""

from collections.abc import Iterable

from ..evidence import DeadLayer, Evidence, Loss, Optimizer
from ..evidence.units import MOST, dead_share
from .bookkeeping import from_the_start, outranked
from .cause import Answer, CannotSay, Cause, Remedy, Verdict
from .course import AT_REST, LITTLE, a_term_is_learned, learned_little, learned_nothing, readable, said, unmixed
from .domains import drifted, may_trespass, trespass
from .failure import FAR, HOT_RATIO, JUMP, diverged, failed
from .remedies import monash_stability, nan_guide, nan_root_cause, stability_guide, torch_docs
from .remedies.this_run import accumulated
from .step_size import (
    VERY_HOT,
    WARM,
    explained_by_data,
    first_gradient,
    gradient_explains,
    lr_weight,
    overshoot_clues,
    ratio_before,
    unexplained,
    unseen_leap,
)
from .weighing import Clue, clue, weigh
from .wording import num, path_of_losses, percent, where

TORN = 0.5  # of the weights in one step, in a run that then learns nothing; healthy first steps reach 0.25
THROWN, HOT_ADAPTIVE = 0.05, 2.0  # less is enough at an lr, as lr_weight says it, that no adaptive optimizer is given
FEW_STEPS = 5  # a failure this early has no window before it: the first updates themselves are the evidence
ROSE = 5.0  # the schedule raised lr by this factor before the run left its path
GREW = 5.0  # times the norm of all weights; a training that goes well stays below two
LOST, RISES = 2.0, 0.2  # times the best level; of the whole way down, risen over the second half
FEELS = 0.2  # error against that of a constant answer: what is lost below it is noise
FAR_GREW = 10.0
STALLED, NEARLY_ALL = 0.5, 0.9  # of the run; of the first loss: who won so much has learned, whatever came before
NEARLY_ALL_OF_IT = 0.8  # of the run since the loss was best
FAR_HIGH = 1.5  # as lr_weight says it: lr 0.05 for Adam, 5 for SGD
POOR = 0.5  # error against that of a constant answer
PRIOR = -1.5


def judge(e: Evidence) -> Answer:
    bad, optimizer = e.bad, e.optimizer
    if not (failed(e) or stuck_hot(e)):
        return None
    if optimizer is not None and not optimizer.lr_finite:
        found = clue(4.0, "the learning rate itself became NaN or Inf", optimizer.lr)
        return weigh(0.0, [found], "The schedule gave a learning rate that is not finite.")
    if bad is not None and (bad.phase == "input" or (bad.phase == "weights" and bad.writer != "optimizer")):
        return None
    if bad is not None and (bad.masked_rows or bad.mode == "eval" or e.onset.failed == 0):
        return None
    if optimizer is None or max(optimizer.update_ratio or -1, optimizer.update_ratio_first or -1) < 0:
        return CannotSay("lr-too-high: no optimizer, or no update sizes, in this trace")
    clues = [*overshoot_clues(e), *_course(e), *_against(e), *outranked(e)]
    return _with_place(e, weigh(PRIOR, clues, _summary(e, optimizer)))


def stuck_hot(e: Evidence) -> bool:
    """Nothing failed and nothing was learned, after updates that no run survives: it was thrown onto a plateau."""
    optimizer = e.optimizer
    peak = optimizer.update_ratio_peak if optimizer else None
    if optimizer is None or peak is None or failed(e) or from_the_start(e):
        return False
    if hot_to_the_end(e) or killed(e) or unlearned(e) or thrown_flat(e):
        return True
    if not learned_little(e):
        return False
    hot = optimizer.adaptive and lr_weight(optimizer, optimizer.lr_peak) >= HOT_ADAPTIVE
    return (peak >= TORN and learned_nothing(e)) or (hot and peak >= THROWN)


def hot_to_the_end(e: Evidence) -> bool:
    """Updates have multiplied the weights, or still turn them around at the end, and the answers are poor."""
    optimizer, weights = e.optimizer, e.weights
    if optimizer is None or (optimizer.update_ratio_peak or 0) < VERY_HOT:
        return False
    growth = weights.growth if weights is not None and weights.growth is not None else 1.0
    high = lr_weight(optimizer, optimizer.lr_peak) > 0 and (growth >= FAR_GREW or readable(e) is None)
    torn = (optimizer.update_ratio_peak or 0) >= TORN
    far = readable(e) is None and lr_weight(optimizer, optimizer.lr_peak) >= FAR_HIGH
    if high and torn and (growth >= GREW or far):  # the loss tells too little, or the weights tell enough
        return True
    high = lr_weight(optimizer, optimizer.lr_peak) > 0  # tables that start near 0 must grow, and hard data stay dear
    poor = learned_little(e) or (e.fit is not None and e.fit.end >= POOR and high)
    return poor and (growth >= GREW or (optimizer.update_ratio_late or 0) >= VERY_HOT)


def unlearned(e: Evidence) -> bool:
    """What had been learned is lost again, and goes on being lost, at a step size that nobody gives this optimizer."""
    course, optimizer = readable(e), e.optimizer
    if course is None or optimizer is None or lr_weight(optimizer, optimizer.lr_peak) <= 0 or not course.best > 0:
        return False
    if a_term_is_learned(e):
        return False
    hot = (optimizer.update_ratio_peak or 0) >= WARM
    fit = e.fit  # beside a constant term, as label smoothing has one, the error says it better than the loss
    lost = course.end >= LOST * course.best or (fit is not None and fit.end >= LOST * fit.best and fit.end >= FEELS)
    for_good = course.stalled >= NEARLY_ALL_OF_IT and course.end - course.best >= LITTLE * (course.start - course.best)
    if hot and for_good and lr_weight(optimizer, optimizer.lr_peak) >= FAR_HIGH:
        return True
    return hot and lost and course.falling >= RISES


def thrown_flat(e: Evidence) -> bool:
    """Updates as large as the weights threw the loss a hundredfold up; it came down to where no gradient is left."""
    optimizer, loss, gradients, course = e.optimizer, e.loss, e.gradients, readable(e)
    if optimizer is None or loss is None or gradients is None or gradients.end is None or course is None:
        return False
    torn = (optimizer.update_ratio_peak or 0) >= TORN and lr_weight(optimizer, optimizer.lr_peak) > 0
    flat = gradients.end <= AT_REST * gradients.first and course.stalled >= STALLED
    return torn and flat and loss.peak >= FAR * course.start and course.end > (1 - NEARLY_ALL) * course.start


def killed(e: Evidence) -> bool:
    """Units that fired in the first batch never fire again, after updates of a tenth of the weights or more."""
    hot = e.optimizer is not None and (e.optimizer.update_ratio_peak or 0) >= VERY_HOT
    return hot and e.units is not None and e.units.relu and learned_little(e) and died(e.units.dead)


def died(layers: Iterable[DeadLayer]) -> bool:
    """The worst of them was alive when the training began."""
    worst = [layer for layer in layers if dead_share(layer) >= MOST][:1]
    return any(layer.at_first is not None and layer.at_first < MOST for layer in worst)


def _course(e: Evidence) -> list[Clue]:
    """How the run came to its end."""
    found: list[Clue] = []
    loss, optimizer = e.loss, e.optimizer
    early = e.onset.failed <= FEW_STEPS
    first = optimizer.update_ratio_first if optimizer else None
    ratio = ratio_before(e)
    if not failed(e) and e.course is not None and optimizer is not None:
        text = f"updates reached {percent(optimizer.update_ratio_peak or 0)} of the weights, and {said(e.course)}"
        found.append(clue(2.0, text, optimizer.update_ratio_peak, THROWN))
    elif diverged(e) and loss is not None:
        found.append(clue(2.0, _how_it_ended(e, loss), loss.end, loss.first))
    elif e.onset.run_up >= 2:
        text = f"loss grew for {e.onset.run_up} steps before the failure: {path_of_losses(e)}"
        found.append(clue(1.5, text, loss.growth if loss else None, 1, e.onset.step))
    elif e.onset.run_up == 1 and ratio is not None and ratio >= VERY_HOT:
        text = f"the loss jumped one step before the failure: {path_of_losses(e)}"
        found.append(clue(1.0, text, loss.growth if loss else None, 1, e.onset.step))
    elif early and first is not None and first >= 10 * HOT_RATIO and not gradient_explains(e):
        found.append(clue(1.5, f"the first update alone moved the weights by {percent(first)}", first, HOT_RATIO, 0))
    elif e.onset.run_up == 0 and not early:
        found.append(clue(-1.5, "it was sudden: the step before, the loss was ordinary"))
    if optimizer and optimizer.lr and optimizer.lr_first and optimizer.lr / optimizer.lr_first >= ROSE:
        text = f"the schedule had raised lr from {num(optimizer.lr_first)} to {num(optimizer.lr)}"
        found.append(clue(1.5, text, optimizer.lr, optimizer.lr_first, e.onset.step))
    if optimizer and optimizer.hot_group:
        found.append(clue(0.7, f"group {optimizer.hot_group} has at least 10 times the lr of another"))
    return found


def _how_it_ended(e: Evidence, loss: Loss) -> str:
    if loss.end > JUMP * abs(loss.first):
        return f"the loss went from {num(loss.first)} to {num(loss.end)} and did not come back"
    if loss.peak > JUMP * abs(loss.first):
        return f"the loss rose from {num(loss.first)} to {num(loss.peak)}, and ended at {num(loss.end)}"
    growth = e.weights.growth if e.weights else None
    return f"the weights grew {num(growth)}-fold, while the loss went from {num(loss.first)} to {num(loss.end)}"


def _against(e: Evidence) -> list[Clue]:
    found: list[Clue] = []
    data, loss, outputs, gradients = e.data, e.loss, e.activations, e.gradients
    if unmixed(e):
        found.append(clue(-4.0, "batches are not mixed: each holds few of the classes"))
    if data and data.loudest_ratio is not None and data.loudest_ratio >= 30:
        found.append(clue(-3.0, f"a batch was {num(data.loudest_ratio)} times louder than usual"))
    if explained_by_data(e) and data is not None:
        text = f"the data have an rms of {num(data.scale)}: lr would be sane for data that are normalised"
        found.append(clue(-4.0, text, data.scale))
    elif loss and (unexplained(e) or 0) >= 1e6:
        found.append(clue(-4.0, f"the first loss, {num(loss.first)}, is far beyond what the model's outputs explain"))
    elif data and data.first_absmax is not None and data.first_absmax >= 1e3:
        found.append(clue(-1.5, f"the data were never normalised: values up to {num(data.first_absmax)}"))
    if e.leap is not None and unseen_leap(e):
        text = f"the loss leapt {num(e.leap.factor)}-fold after an update of {percent(e.leap.moved)} of the weights"
        found.append(clue(-4.0, text, e.leap.factor, step=e.leap.step))
    over = loss.first_over_expected if loss else None
    if over is not None and over >= 3 and outputs and (outputs.amplification or 0) >= 100:
        found.append(clue(-3.0, f"the first loss was {num(over)} times the expected already"))
    if e.weights and e.weights.worst_gain is not None and e.weights.worst_gain >= 14:
        found.append(clue(-2.0, f"{e.weights.worst_layer} was far too large before the first step"))
    if gradients and e.optimizer and lr_weight(e.optimizer) <= 0 and 100 <= first_gradient(e) < 1e3:
        found.append(clue(-2.0, f"the gradient norm was {num(gradients.first)} at the first step already"))
    bad = e.bad
    if bad is not None and not drifted(e) and (trespass(bad) or may_trespass(bad)):
        found.append(clue(-1.5, f"{bad.op} left its domain while the loss was ordinary"))
    if bad is not None and bad.dtype == "float16" and not drifted(e):
        found.append(clue(-1.5, "the value was born in float16 while the loss was ordinary"))
    return found


def _summary(e: Evidence, optimizer: Optimizer) -> str:
    lr = f"lr {num(optimizer.lr)}" if optimizer.lr is not None else "the step size"
    ratio = optimizer.update_ratio if optimizer.update_ratio is not None else optimizer.update_ratio_first
    moved = f": each update moved the weights by {percent(ratio)}" if ratio is not None else ""
    return f"{optimizer.name} with {lr} overshoots from step {e.onset.step} on{moved}."


def _with_place(e: Evidence, verdict: Verdict | None) -> Answer:
    """The proximate operation beside the root."""
    if verdict is None or e.bad is None:
        return verdict
    proximate = clue(
        0,
        f"the first {e.bad.kind or 'non-finite value'} then showed at {where(e.bad)}",
        e.bad.kind,
        step=e.bad.step,
        layer=e.bad.layer,
    ).fact
    return Verdict(verdict.confidence, verdict.summary, (*verdict.evidence, proximate), verdict.against)


def remedies(e: Evidence) -> tuple[Remedy, ...]:
    clips = e.gradients is not None and e.gradients.max_norm is not None
    ladder = [torch_docs.finite_schedule] if e.optimizer is not None and not e.optimizer.lr_finite else []
    ladder += [nan_guide.lower_lr, nan_guide.clip_half if clips else nan_guide.clip_one, stability_guide.warm_up]
    ladder += [nan_guide.warm_up_cosine, nan_root_cause.adaptive_clip, nan_root_cause.one_cycle]
    if not clips:
        ladder.append(nan_guide.clip_half)
    ladder += [
        monash_stability.reduce_on_plateau,
        nan_guide.adamw,
        monash_stability.lower_lr,
        nan_guide.larger_batch,
    ]
    if accumulated(e) > 1:
        ladder.append(stability_guide.lr_with_accumulation)
    ladder += [monash_stability.loss_cap, nan_guide.skip_bad_loss, nan_root_cause.check_weights]
    if e.data is None or e.data.labels_high is not None:  # a loss of classes, or one that the trace does not tell
        ladder.append(nan_guide.label_smoothing)
    ladder += [
        stability_guide.complete,
        nan_root_cause.watch_norm,
        nan_guide.monitor,
        nan_guide.more_epochs,
        nan_guide.start_over,
    ]
    return tuple(remedy(e) for remedy in ladder)


CAUSE = Cause("lr-too-high", "The learning rate is too high", __doc__, judge, remedies)
