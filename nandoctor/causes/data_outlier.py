"""Finite inputs or targets of wild or un-normalised scale.

What happens
    One batch is a thousand times louder than the others, or the data were never
    normalised. The loss and the gradient follow; one step throws the weights so
    far that the run does not come back.

How to tell it from its neighbours
    bad-input-data: NaN or Inf in the batch. lr-too-high: the batches are ordinary
    and updates were too large for steps before. exploding-gradients: the input has
    its usual scale and the gradient grows inside the network.

What to do
    Normalise inputs and targets by the training set's mean and spread; find the
    loud rows and drop or clip them. Gradient clipping keeps one batch from
    deciding the run.

Sources
    monash-stability (files of different range, validation, loss cap), nan-guide
    (outliers), nan-root-cause (adaptive clipping)
"""

import math

from ..evidence import Data, Evidence
from ..evidence.data import VERY_LOUD
from .bad_labels import no_probability
from .cause import Answer, Cause, Remedy
from .course import LITTLE, learned_little
from .domains import swallowed
from .failure import FAR, failed, loud_target, settled
from .remedies import monash_stability, nan_guide, nan_root_cause
from .step_size import (
    LOUD_RMS,
    explained_by_data,
    gradient_explains,
    steps_were_sound,
    unexplained,
    unseen_leap,
)
from .weighing import Clue, clue, weigh
from .wording import num, percent

LOUD = 30.0  # absmax against its running median: study's outliers from 607 on, all others at most 1.07; E25
UNNORMALISED = 1e3  # never normalised, E25
DEAR = 10.0  # times what the other batches cost: whatever was learned, it does not hold for these
THROUGH = 0.1  # of the input's size behind the first layers: nothing normalises it
AGAIN = 3  # loud batches: one alone may be survived
FAR_OVER = 30.0  # first loss / expected: healthy 0.7 to 1.1, also with raw targets, which raise both
ABSURD, STILL_FAR = 1e4, 100.0
TORN = 1.0  # the first update is as large as the weights
SANE_LR = {True: 1e-2, False: 0.1}  # adaptive or not: below this the step size is not to blame by itself
UNEXPLAINED = 1e6  # beyond what a sum over the elements of a batch makes of ordinary errors
BACK_AND_FORTH = -0.5  # cosine of successive gradients: each step turns them around, for curvature is that large
SMALL, ORDERED = 1e-3, 0.5  # rms of the smallest matrix' gradient against the largest, smaller towards the input
POOR = 0.5  # error against that of a constant answer
STANDS = 0.02  # all updates together, against the weights
SPIKE = 1e3  # a finite loss so far above its start that one batch hurt, even if it came back


def judge(e: Evidence) -> Answer:
    data = e.data
    spiked = _spiked(e)
    if not (failed(e) or spiked or _suffers(e)):
        return None
    if e.bad is not None and (e.bad.phase in ("input", "weights") or e.bad.masked_rows):
        return None
    if no_probability(e):
        return None
    clues: list[Clue] = []
    summary = ""
    ratio = data.loudest_ratio if data else None
    if data and ratio is not None and ratio >= LOUD:
        text = f"{data.loudest_tensor} reaches {num(data.loudest_absmax)} at step {data.loudest_step}, "
        text += f"{num(ratio)} times its usual largest value"
        clues.append(clue(3.5 if ratio >= VERY_LOUD else 2.2, text, ratio, LOUD, data.loudest_step))
        summary = f"One loud batch: {text}."
    if data and data.scale is not None and data.scale >= LOUD_RMS:
        tensor = data.rms_tensor if data.scale == data.rms else data.target_tensor
        text = f"{tensor} has an rms of {num(data.scale)}: never normalised"
        clues.append(clue(2.5 if _sane_lr(e) else 1.2, text, data.scale, LOUD_RMS, 0))
        summary = summary or f"The data were not normalised: {text}."
        if explained_by_data(e) and (failed(e) or _poor(e)):
            told = "a step size that is sane for normalised data is not for these"
            clues.append(clue(1.5, told, e.optimizer.lr_peak if e.optimizer else None))
    elif data and data.first_absmax is not None and data.first_absmax >= UNNORMALISED:
        text = f"{data.first_tensor} holds values up to {num(data.first_absmax)}: never normalised"
        clues.append(clue(2.2 if _sane_lr(e) else 1.2, text, data.first_absmax, UNNORMALISED, 0))
        summary = summary or f"The data were not normalised: {text}."
    if data and _unnormalised(data) and gradient_explains(e) and e.gradients is not None:
        clues.append(clue(1.0, f"the first gradient norm is {num(e.gradients.first)} at a sane lr", e.gradients.first))
    hidden = _hidden_target(e)
    if hidden is not None and not clues:
        clues.append(clue(2.2, hidden))
        summary = f"The targets are loud: {hidden}."
    leap = e.leap
    if leap is not None and not clues and unseen_leap(e):
        text = f"the loss leapt {num(leap.factor)}-fold at step {leap.step}, after an update of "
        text += f"{percent(leap.moved)} of the weights: the batch is another, not the model"
        clues.append(clue(2.5, text, leap.factor, FAR, leap.step))
        summary = f"A loud batch: {text}."
    if data and data.loud_batches >= AGAIN and not (ratio is not None and ratio >= LOUD):
        text = f"{data.loud_batches} of {data.batches} batches are hundreds of times louder than the others"
        clues.append(clue(3.0, text, data.loud_batches, AGAIN))
        summary = summary or f"Loud batches: {text}."
    if loud_target(e) and e.loss is not None:
        text = f"the loss jumped {num(e.loss.jump_at_onset)}-fold at step {e.onset.step}, inputs and layers did not"
        clues.append(clue(0.3, text, e.loss.jump_at_onset, 100, e.onset.step))
        summary = summary or f"Perhaps a loud target, which this trace does not hold: {text}."
    if not clues:
        return None
    gradients = e.gradients
    seen = any(each.weight > 1 for each in clues)  # data that are loud, not only a loss
    if seen and gradients and gradients.spike is not None and gradients.spike >= 100:
        clues.append(
            clue(0.7, f"the gradient norm jumped {num(gradients.spike)}-fold", gradients.spike, 100, e.onset.step)
        )
    if swallowed(e):
        clues.append(clue(-4.0, "the model divides them by their size, and that passes the range of half precision"))
    if data and not failed(e) and not _poor(e) and _raw(e, data):
        clues.append(clue(-0.7, "it learns all the same"))
    hot = e.optimizer is not None and (e.optimizer.update_ratio or 0) >= 0.03
    if hot and e.optimizer and e.optimizer.update_ratio is not None and not explained_by_data(e) and hidden is None:
        clues.append(clue(-1.0, f"updates were {num(e.optimizer.update_ratio)} of the weights before it"))
    return weigh(-1.0, [*clues, *steps_were_sound(e)], summary)


def _hidden_target(e: Evidence) -> str | None:
    """Targets that no loss of torch's saved, told by what the loss is although the model's outputs are small."""
    loss = e.loss
    if loss is None or (e.data is not None and e.data.target_rms is not None):
        return None
    if e.optimizer is None or e.optimizer.optimizers > 1:  # losses that play against each other jump by themselves
        return None
    hurts = failed(e) or learned_little(e)
    over = unexplained(e)
    if hurts and over is not None and over >= UNEXPLAINED:
        return f"the first loss is {num(loss.first)}, {num(over)} times what the model's outputs explain"
    if loss.spikes >= AGAIN and not settled(e):
        return f"{loss.spikes} losses are a thousand times the usual one, and the next is ordinary again"
    return None


def _suffers(e: Evidence) -> bool:
    """Nothing failed, but loud data come again and again, or the first step on data as they came tore the weights."""
    if _hidden_target(e) is not None:
        return True
    data, optimizer = e.data, e.optimizer
    if data is None:
        return False
    torn = optimizer is not None and (optimizer.update_ratio_first or 0) >= TORN
    alone = optimizer is None or optimizer.optimizers <= 1  # one of several losses says nothing of the others
    fits = alone and settled(e) and e.fit is not None and e.fit.end < THROUGH  # far better than a constant, and calm
    if _unnormalised(data) and (torn or _absurd_start(e)) and not fits:
        return True
    if _unnormalised(data) and _poor(e):
        return True
    if data.loud_batches >= AGAIN and (data.loud_cost or 0) >= DEAR:
        return True
    return _raw(e, data) or saturated(e) or (not settled(e) and data.loud_batches >= AGAIN)


def _raw(e: Evidence, data: Data) -> bool:
    """Thousands go through the layers as they came, and the run, though it learns, did not settle."""
    raw = data.rms is not None and data.rms >= UNNORMALISED and e.activations is not None
    passes = raw and e.activations is not None and (e.activations.first_rms or 0) >= THROUGH * (data.rms or 0)
    turns = e.dynamics is not None and (e.dynamics.cosine_late or 0) <= BACK_AND_FORTH
    return passes and (turns or not settled(e) or _scale_alone(e)) and (e.fit is None or e.fit.end >= THROUGH)


def _scale_alone(e: Evidence) -> bool:
    """The loss fell a thousandfold and the weights hardly moved: what was undone is the scale, nothing was learned."""
    loss, trained = e.loss, e.trained
    if loss is None or trained is None or trained.travelled is None or not math.isfinite(loss.first):
        return False
    return trained.travelled < STANDS and loss.first >= SPIKE * max(abs(loss.end), 1e-30)


def saturated(e: Evidence) -> bool:
    """A first layer's gradient is a multiple of its loud input: where it is the smallest all the same, its units are
    flat.
    """
    data, depth = e.data, e.depth
    if data is None or depth is None or depth.ratio is None or not depth.saturating or (data.rms or 0) < LOUD_RMS:
        return False
    return depth.ratio < SMALL and (depth.ordered or 0) >= ORDERED


def _unnormalised(data: Data) -> bool:
    loud = data.scale is not None and data.scale >= LOUD_RMS
    return loud or (data.first_absmax is not None and data.first_absmax >= UNNORMALISED)


def _poor(e: Evidence) -> bool:
    """It has learned little: of the loss, or beyond what one constant answer would do."""
    if e.fit is not None:
        return e.fit.end >= POOR or learned_little(e)
    return not settled(e) and (learned_little(e) or _fell_at_once(e))


def _fell_at_once(e: Evidence) -> bool:
    """What it won, it won in the first steps: an absurd first loss came down, and little was learned after that."""
    loss = e.loss
    return loss is not None and loss.early is not None and loss.end > (1 - LITTLE) * loss.early > 0


def _absurd_start(e: Evidence) -> bool:
    """The first loss is far beyond what the targets explain; where the trace does not know them, beyond any."""
    loss = e.loss
    if loss is None or not math.isfinite(loss.first):
        return False
    if e.optimizer is not None and e.optimizer.optimizers > 1:  # where their losses end tells nothing
        return loss.first >= ABSURD
    moderate = e.data is None or (e.data.first_absmax or 0) < UNNORMALISED
    if moderate and e.fit is not None and e.fit.end < POOR:
        return False
    over = loss.first_over_expected
    return over >= FAR_OVER if over is not None else loss.first >= ABSURD and loss.end >= STILL_FAR


def _spiked(e: Evidence) -> bool:
    if e.loss is None or e.data is None or not math.isfinite(e.loss.peak) or settled(e):
        return False
    loud = e.data.loudest_ratio is not None and e.data.loudest_ratio >= VERY_LOUD
    return loud and e.loss.peak > SPIKE * max(abs(e.loss.first), 1.0)


def _sane_lr(e: Evidence) -> bool:
    lr = e.optimizer.lr_peak if e.optimizer else None
    return lr is None or (e.optimizer is not None and lr <= SANE_LR[e.optimizer.adaptive])


def remedies(e: Evidence) -> tuple[Remedy, ...]:
    others = (
        monash_stability.normalise,
        monash_stability.clip,
        monash_stability.loss_cap,
        monash_stability.validate_data,
        nan_root_cause.adaptive_clip,
        monash_stability.clip_harder,
        nan_guide.scan_data,
        monash_stability.lower_lr,
        monash_stability.reduce_on_plateau,
        monash_stability.adamw,
        nan_guide.larger_batch,
        monash_stability.smaller_batch,
    )
    found = tuple(remedy(e) for remedy in others)
    data = e.data
    if data is None or data.loudest_ratio is None or data.loudest_ratio < LOUD:
        return found
    drop = Remedy(
        "Drop or clip the loud rows",
        f"{data.loudest_tensor} at step {data.loudest_step}: "
        f"{num(data.loudest_absmax)} -> at most {num(data.loudest_absmax / data.loudest_ratio * 3)}"
        if data.loudest_absmax
        else "values beyond three times the usual range",
        monash_stability.SOURCE,
        "data",
        "x = x.clamp(-limit, limit)",
    )
    return (drop, *found)


CAUSE = Cause("data-outlier", "Inputs or targets of wild scale", __doc__, judge, remedies)
