"""Gradients grow through depth or time, or spike on some batches.

What happens
    Backward multiplies by each layer, or by the same recurrent weight once for
    each time step. A gain of 1.1 over 200 steps is two hundred million. On most
    batches it stays small; a longer sequence, a deeper unroll or a rare batch makes
    one gradient so large that a single update ruins the weights.

How to tell it from its neighbours
    lr-too-high: updates were too large for steps before. Here they were small
    against the weights until the spike, and the learning rate is sane.
    data-outlier: the batch itself is loud. bad-initialization: the first forward
    pass is absurd already.

What to do
    Clip the gradient norm at 1.0, before the optimizer's step and after unscale_.
    Then shorten the unroll, normalise between layers, start recurrent weights
    orthogonal.

Sources
    nan-guide and stability-guide (clip 1.0), nan-root-cause (ladder of clips),
    monash-stability (no clipping was its first cause), repair-not-skip (repair),
    pascanu-2013 and saxe-2014 (recurrent networks)
"""

import math

from ..evidence import Bad, Evidence, Gradients
from .bookkeeping import outranked
from .cause import Answer, CannotSay, Cause, Remedy
from .course import learned_little
from .domains import drifted, trespass
from .failure import HOT_RATIO, failed, loud_target
from .remedies import monash_stability, nan_guide, nan_root_cause, papers, repair_not_skip, stability_guide
from .step_size import (
    LARGE_FIRST,
    LARGE_GRADIENT,
    LOUD_DATA,
    LOUD_RMS,
    WARM,
    first_gradient,
    gain_per_matrix,
    gradient_explains,
    grown_hot,
    lr_weight,
    ratio_before,
    steps_were_sound,
    unseen_leap,
)
from .weighing import Clue, clue, weigh
from .wording import num, percent, where

SPIKE = 10.0  # gradient norm against its median before onset; study's healthy runs stay at 1.02
FAR_SPIKE = 100.0
GAIN = 10.0  # backward gain first / last layer; AutoTrainer warns from 70, healthy nets stay near 1
HUGE = {"float16": 256.0, "bfloat16": 1e19, "float32": 1e19, "float64": 1e154}  # the product of two leaves the type
NO_CLIP = 1e3  # guides clip at 0.5 to 10
LEAPT = 2.0  # highest loss against the first ones
UNROLLED = 8  # a gain of 1.5 is 26 then; weights that two branches share are used twice or thrice
FAR_PER_MATRIX = 7.0  # five times He's rule: depth multiplies, and needs many layers for as much
EARLY = 5  # steps: no window before it tells what is usual
COUPLED = 0.7  # correlation of the log norm with the sequence length, E22
LONG = 3.0  # input length against its median: gains that multiply by length cube at three times it
PRIOR = -1.0


def judge(e: Evidence) -> Answer:
    bad, gradients = e.bad, e.gradients
    if not failed(e) and not _useless_clip(e) and not _spiked(e) and not thrown(e):
        return None
    if bad is not None and (bad.phase in ("input", "weights") or bad.masked_rows or bad.mode == "eval"):
        return None
    if bad is not None and bad.phase == "backward" and _ordinary_before(bad):
        return None
    if gradients is None:
        return CannotSay("exploding-gradients: no gradient norms in this trace")
    growth = _growth(e, gradients)
    if not growth:
        return None
    clues = [*growth, *_step_size(e), *steps_were_sound(e), *_against(e), *outranked(e)]
    peak = gradients.at_onset if gradients.at_onset is not None else gradients.peak
    usual = f", {num(gradients.pre_median)} before" if gradients.pre_median is not None else ""
    place = f" First seen at {where(bad)}." if bad is not None else ""
    return weigh(PRIOR, clues, f"The gradient norm reached {num(peak)} at step {e.onset.step}{usual}.{place}")


def _growth(e: Evidence, gradients: Gradients) -> list[Clue]:
    found: list[Clue] = []
    spike = gradients.spike
    if spike is not None and spike >= SPIKE:
        text = f"gradient norm {num(gradients.at_onset)} around step {e.onset.step}, "
        text += f"median {num(gradients.pre_median)} before"
        found.append(clue(2.0 if spike >= FAR_SPIKE else 1.3, text, spike, SPIKE, e.onset.step))
    if _spiked(e):
        text = f"the norm reached {num(gradients.peak)}, usually {num(gradients.pre_median)}, and nothing clips it"
        found.append(clue(2.0, text, gradients.peak, FAR_SPIKE))
    if not failed(e) and _useless_clip(e):
        text = f"the clip at {num(gradients.max_norm)} never acts, while the norm reached {num(gradients.peak)}"
        found.append(clue(1.8, text, gradients.max_norm, NO_CLIP))
    hot = (ratio_before(e) or 0) >= HOT_RATIO  # then everything explodes at onset, and tells nothing
    gain = max(gradients.backward_gain or 0, 0 if hot else gradients.backward_gain_at_onset or 0)
    if gain >= GAIN:
        text = f"from the last layer to the first the gradient grows {num(gain)}-fold"
        found.append(clue(1.2, text, gain, GAIN))
    if gradients.length_coupling is not None and gradients.length_coupling >= COUPLED:
        text = f"the norm follows the length of the input (correlation {num(gradients.length_coupling)})"
        found.append(clue(1.5, text, gradients.length_coupling, COUPLED))
    length, usual = gradients.length_at_onset, gradients.usual_length
    if length is not None and usual and length >= LONG * usual:
        text = f"the input was {num(length)} long at step {e.onset.step}, usually {num(usual)}"
        found.append(clue(1.5, text, length, usual, e.onset.step))
    over = e.loss.first_over_expected if e.loss else None
    amplified = e.activations is not None and not (e.activations.amplification or 0) < 100
    finite = amplified and e.activations is not None and math.isfinite(e.activations.amplification or 0)
    large = first_gradient(e)
    if large >= LARGE_FIRST and (over is None or over < 3) and not _far_weights(e) and not amplified:
        loss = f", {num(large)} times what a loss of {num(e.loss.first)} explains" if e.loss else ""
        found.append(clue(2.5, f"gradient norm {num(gradients.first)} at the first step{loss}", large, LARGE_FIRST, 0))
    if finite and e.activations is not None and not _far_weights(e) and _by_rule(e):
        text = f"the forward pass grows {num(e.activations.amplification)}-fold through depth, with weights by the rule"
        found.append(clue(2.5, text, e.activations.amplification, 100.0, 0, e.activations.first_layer))
    backward = e.bad is not None and e.bad.phase == "backward" and trespass(e.bad) is None and e.bad.dtype != "float16"
    incoming = e.bad.operand("gradient") if e.bad is not None and backward else None
    if incoming is not None and incoming.absmax >= HUGE.get(incoming.dtype, 1e19):
        text = f"the gradient had reached {num(incoming.absmax)} where it turned {e.bad.kind if e.bad else 'bad'}"
        found.append(clue(2.0, text, incoming.absmax, HUGE.get(incoming.dtype, 1e19)))
    unrolled = e.activations.unrolled if e.activations is not None else 1
    if not found and unrolled >= UNROLLED and _at_once(e):
        text = f"gradient norm {num(gradients.first)} at the first step, {num(large)} times what the loss explains"
        found.append(clue(2.0, text, large, LARGE_GRADIENT, 0))
    if found and unrolled >= UNROLLED:
        found.append(clue(0.8, f"the same layer is used {unrolled} times in a row: gains multiply", unrolled, UNROLLED))
    if found and backward and e.bad is not None:  # by itself it tells of an operation, not of growth
        found.append(clue(0.7, "the value was born in the backward pass, the loss was finite", step=e.bad.step))
    return found


def _at_once(e: Evidence) -> bool:
    """The first gradients ruined the weights, at a step size, with data and with weights that are ordinary."""
    loud = e.data is not None and ((e.data.scale or 0) >= LOUD_RMS or (e.data.first_absmax or 0) >= LOUD_DATA)
    return e.onset.failed <= EARLY and gradient_explains(e) and not loud and not _far_weights(e)


def _ordinary_before(bad: Bad) -> bool:
    """The gradient that came in was finite and far from the end of its type: the operation itself made the value."""
    incoming = bad.operand("gradient")
    return incoming is not None and incoming.finite and incoming.absmax < HUGE.get(incoming.dtype, 1e19)


def _step_size(e: Evidence) -> list[Clue]:
    ratio = ratio_before(e)
    found: list[Clue] = []
    if failed(e) and ratio is not None and e.onset.window[1] > e.onset.window[0] and not gradient_explains(e):
        text = f"until then updates were {percent(ratio)} of the weights"
        weight = -3.0 if ratio >= 0.1 else -2.0 if ratio >= HOT_RATIO else 1.5 if ratio < WARM else 0.0
        if weight < 0 and e.optimizer is not None and grown_hot(e.optimizer):
            weight = -1.0  # large gradients make them so
        found.append(clue(weight, text, ratio, HOT_RATIO))
    if e.optimizer is not None and e.optimizer.lr is not None:
        weight = lr_weight(e.optimizer)
        word = "high" if weight > 0 else "sane"
        found.append(
            clue(
                -weight if weight > 0 else 1.2 if weight < 0 else 0.0,
                f"lr {num(e.optimizer.lr)} is {word} for {e.optimizer.name}",
                e.optimizer.lr,
            )
        )
    return found


def _against(e: Evidence) -> list[Clue]:
    found: list[Clue] = []
    data, gradients, bad = e.data, e.gradients, e.bad
    if data and data.loudest_ratio is not None and data.loudest_ratio >= 30:
        found.append(clue(-3.0, f"the batch itself was {num(data.loudest_ratio)} times louder than usual"))
    if data and data.loud_batches >= 3:
        found.append(clue(-3.0, f"{data.loud_batches} batches were hundreds of times louder than the others"))
    if data and ((data.first_absmax or 0) >= 1e3 or (data.scale or 0) >= LOUD_RMS):
        found.append(clue(-3.5, f"the data were never normalised: values up to {num(data.first_absmax)}"))
    if e.leap is not None and unseen_leap(e):
        found.append(clue(-3.0, f"the loss leapt {num(e.leap.factor)}-fold from one batch to the next"))
    if loud_target(e):
        found.append(clue(-0.7, "inputs and outputs of layers were ordinary when the loss jumped: a loud target?"))
    per_matrix = gain_per_matrix(e)
    if per_matrix is not None and per_matrix >= FAR_PER_MATRIX:
        found.append(clue(-4.0, f"the first gradient is a factor of {num(per_matrix)} for each matrix"))
    if _far_weights(e):
        found.append(clue(-3.0, "weights were far too large before the first step"))
    if gradients and gradients.max_norm is not None and gradients.max_norm <= 10:
        found.append(clue(-1.5, f"gradients were clipped at {num(gradients.max_norm)}"))
    if bad is not None and trespass(bad) is not None and not drifted(e):
        found.append(clue(-3.0, f"{bad.op} left its domain"))
    if bad is not None and bad.dtype == "float16":
        found.append(clue(-1.5, "the value was born in float16"))
    return found


def _useless_clip(e: Evidence) -> bool:
    """A clip that no gradient ever reaches, where gradients and with them the loss did leap."""
    gradients, loss = e.gradients, e.loss
    if gradients is None or loss is None or gradients.max_norm is None or gradients.max_norm < NO_CLIP:
        return False
    leapt = gradients.pre_median is not None and gradients.peak >= SPIKE * gradients.pre_median
    return leapt and gradients.clipped_share == 0 and loss.peak >= LEAPT * max(abs(loss.first), abs(loss.early or 0.0))


def _spiked(e: Evidence) -> bool:
    """It survived a spike of the gradient that nothing clips, and learned little after it."""
    gradients, loss = e.gradients, e.loss
    if failed(e) or gradients is None or loss is None or not gradients.pre_median or not learned_little(e):
        return False
    far = gradients.peak >= FAR_SPIKE * max(gradients.pre_median, gradients.first)  # what comes to rest has none left
    clipped = gradients.max_norm is not None and gradients.max_norm < NO_CLIP
    high = e.optimizer is None or lr_weight(e.optimizer, e.optimizer.lr_peak) > 0
    return far and not clipped and not high and loss.peak >= LEAPT * max(abs(loss.first), abs(loss.early or 0.0))


def thrown(e: Evidence) -> bool:
    """The first gradient, after a forward pass that multiplied, threw the weights to where nothing is learned."""
    outputs, optimizer = e.activations, e.optimizer
    if failed(e) or outputs is None or optimizer is None or not learned_little(e):
        return False
    far = math.isfinite(outputs.amplification or 0) and (outputs.amplification or 0) >= FAR_SPIKE
    torn = (optimizer.update_ratio_first or 0) >= 1.0 and lr_weight(optimizer, optimizer.lr_peak) <= 0
    return far and torn and first_gradient(e) >= LARGE_FIRST and _by_rule(e) and not _far_weights(e)


def _by_rule(e: Evidence) -> bool:
    loud = e.data is not None and (e.data.scale or 0) >= LOUD_RMS
    return not loud and e.weights is not None and e.weights.worst_gain is not None and e.weights.worst_gain <= 2


def _far_weights(e: Evidence) -> bool:
    return e.weights is not None and e.weights.worst_gain is not None and e.weights.worst_gain >= 7


def remedies(e: Evidence) -> tuple[Remedy, ...]:
    clips = e.gradients is not None and e.gradients.max_norm is not None
    ladder = [nan_guide.clip_half] if clips else [nan_guide.clip_one, nan_guide.clip_half]
    ladder += [
        nan_root_cause.adaptive_clip,
        nan_root_cause.check_gradients,
        nan_guide.lower_lr,
        nan_guide.warm_up_cosine,
    ]
    long, usual = (e.gradients.length_at_onset, e.gradients.usual_length) if e.gradients else (None, None)
    if long is not None and usual is not None and long > usual:  # sequences
        ladder += [papers.orthogonal, papers.gated]
    ladder += [
        monash_stability.loss_cap,
        monash_stability.adamw,
        nan_root_cause.watch_norm,
        nan_guide.larger_batch,
        monash_stability.smaller_batch,
        repair_not_skip.repair_gradients,
        monash_stability.nan_guard,
        stability_guide.looser_clip,
        stability_guide.complete,
        nan_guide.monitor,
        nan_guide.start_over,
    ]
    return tuple(remedy(e) for remedy in ladder)


CAUSE = Cause("exploding-gradients", "Gradients explode", __doc__, judge, remedies)
