"""The weights are NaN, uninitialised or far too large before the first step.

What happens
    Each layer multiplies what it is given by its gain. A gain of 10 over ten
    layers is ten thousand million: the first loss is absurd or already infinite,
    and so is the first gradient. torch.empty as a parameter holds whatever was in
    memory. No learning rate and no clip repairs this.

How to tell it from its neighbours
    In lr-too-high the first loss is that of an untrained model (ln of the number
    of classes) and grows afterwards. In corrupt-weights a checkpoint or other code
    wrote the value. In data-outlier the batch is loud, not the weights.

What to do
    Initialise by the fan-in rule (Kaiming for ReLU, Xavier for tanh), so that the
    outputs of each layer have a spread near 1 at the first step, and start over.

Sources
    nan-guide (unsuitable initialisation, start over), PyTorch's documentation of
    torch.nn.init
"""

import math

from ..evidence import Evidence
from ..evidence.weights import NEXT_TO_NOTHING
from .cause import Answer, Cause, Fact, Remedy, Verdict
from .course import learned_little, learned_nothing
from .domains import faint_weights, half_overflow
from .failure import diverged, failed, settled
from .remedies import nan_guide, repair_not_skip
from .step_size import LARGE_FIRST, LOUD_RMS, first_gradient, gain_per_matrix
from .weighing import Clue, clue, weigh
from .wording import num, percent

CERTAIN = 0.95  # the weight was seen non-finite before any step
RULE = 2.0  # He's rule has 1.41; uniform draws and small layers scatter around it
LOUD_BIAS = 10.0  # units start within 1 of 0, whatever the rule
HALF = 0.5  # of the expected loss: no untrained classifier is that good
MOST = 0.5  # of the elements of all matrices: what the biases alone win does not depend on the input
ALL = 0.9  # of the elements of all matrices, in two or more: heads and last layers of blocks may start from zeros
ENDED = 1e-3  # gradient of the smallest matrix against the largest, as for vanishing-gradients
POOR = 0.5  # error against that of a constant answer
GAIN = 7.0  # std * sqrt(fan-in): Xavier 1, He 1.41; five times He is no rule's
FAR_GAIN = 14.0  # ten times He, E5
LOSS_OVER = 3.0  # first loss / expected: healthy 0.69 to 1.07, bad init from 3 on, E23
FAR_OVER = 10.0  # the same for weights that are beyond the rule, but not far
LOUDER = 10.0  # a layer with a gain of ten times He amplifies by so much, if what it makes is used as it is
FAR_AMPLIFIES = 1e3  # ten layers of a gain of 2
ABSURD = 1e3  # a loss that no untrained model of such data has
AMPLIFIES = 100.0  # rms of the loudest layer / rms of the input in the first pass; healthy nets stay near 1
LOUD_DATA = 1e3  # then the data explain it
EARLY = 5  # steps: an initialisation that fails, fails at once


def judge(e: Evidence) -> Answer:
    bad, weights = e.bad, e.weights
    if not (failed(e) or _hopeless(e) or _far_off(e)) or (bad is not None and bad.phase == "input"):
        return None
    if bad is not None and bad.phase == "weights" and bad.writer in ("initial", None):
        return _non_finite(e, bad.tensor or bad.layer or "a weight", 0 if bad.writer == "initial" else bad.step)
    if weights is not None and weights.bad_at_start is not None and not weights.checkpoint_loads:
        return _non_finite(e, weights.bad_at_start, 0)
    if bad is not None and (bad.phase == "weights" or bad.masked_rows):
        return None
    if bad is not None and bad.kind == "nan" and (weights is None or (weights.worst_gain or 0) < GAIN):
        return None  # weights that are merely large overflow to Inf; a NaN is made by an operation
    clues = _clues(e)
    if not any(each.weight >= 2 for each in clues):
        return None
    if weights is not None and _by_the_rule(e) and _alike(e) is None and not _faint(e):
        text = "every weight and bias starts as the rules have it: what grows, grows through depth"
        clues.append(clue(-4.0, text, weights.worst_gain, RULE))
    loud = weights.worst_layer if weights and (weights.worst_gain or 0) >= GAIN else None
    first = f"first loss {num(e.loss.first)}" if e.loss else "the first forward pass"
    layer = f"; {loud} has std {num(weights.worst_std)}" if loud and weights else ""
    return weigh(-1.5, clues, f"The run was wrong before the first step: {first}{layer}.")


def _biased(e: Evidence) -> bool:
    """It failed at once, and a bias was as far from 0 as no rule puts it."""
    bias = e.weights.loud_bias if e.weights is not None else None
    return failed(e) and e.onset.step <= EARLY and bias is not None and bias[1] >= LOUD_BIAS


def _hides(e: Evidence) -> bool:
    """Whether an ordinary first loss may hide weights that are not: saturated units do, and losses of several terms."""
    return learned_little(e) or _several_terms(e) or _steep(e)


def _steep(e: Evidence) -> bool:
    """The first gradient is a thousand times what the loss explains, or more: backward multiplies by the weights, too,
    and saturated units hide them from the loss alone.
    """
    return not first_gradient(e) < LARGE_FIRST


def _several_terms(e: Evidence) -> bool:
    """Classes that a loss was indexed with need not be its measure: rewards and entropies are not in nats of them."""
    from_labels = e.loss is not None and (e.loss.expected_from or "").startswith("ln")
    return from_labels and e.fit is None and e.loss is not None and e.loss.first < HALF * (e.loss.expected or 0.0)


def _by_the_rule(e: Evidence) -> bool:
    weights = e.weights
    if weights is None or weights.worst_gain is None or not NEXT_TO_NOTHING < weights.worst_gain <= RULE:
        return False
    return weights.loud_bias is None or weights.loud_bias[1] < LOUD_BIAS


def _hopeless(e: Evidence) -> bool:
    """Finite to the end, and absurd from the first loss to the last."""
    if e.loss is None or e.activations is None or e.weights is None or settled(e):
        return False
    far = (e.weights.worst_gain or 0) >= GAIN and (e.activations.amplification or 0) >= FAR_AMPLIFIES
    return far and e.loss.first >= ABSURD and e.loss.end >= ABSURD


def _far_off(e: Evidence) -> bool:
    """A weight far beyond any rule that is also felt: in the outputs, in the first loss, or by learning little."""
    if _alike(e) is not None:
        return True
    if e.weights is None or e.weights.worst_gain is None:
        return False
    if e.weights.worst_gain <= NEXT_TO_NOTHING:
        return e.weights.worst_gain > 0 and learned_little(e)  # a model of one layer may well start from zeros
    if _felt(e) or _faint(e):
        return True
    if e.weights.worst_gain < FAR_GAIN:
        return False
    amplified = e.activations is not None and not (e.activations.amplification or 0) < LOUDER
    over = e.loss.first_over_expected if e.loss else None
    return amplified or (over is not None and not over < LOSS_OVER) or learned_little(e) or _steep(e)


def _faint(e: Evidence) -> bool:
    """Nearly all matrices start next to nothing, whatever the last one starts with, and it is felt: little was learned,
    or the gradient ends on its way through them.
    """
    ended = e.depth is not None and e.depth.ratio is not None and e.depth.ratio < ENDED
    return faint_weights(e) is not None and (ended or learned_little(e))


def _felt(e: Evidence) -> bool:
    """Weights beyond any rule, if not far, and a first loss that no untrained model of such data has. A head that is
    tied to a table of N(0, 1) has such a loss, too, and learns.
    """
    over = e.loss.first_over_expected if e.loss else None
    beyond = e.weights is not None and min(e.weights.worst_gain or 0, e.weights.worst_std or 0) > RULE
    return beyond and over is not None and over >= FAR_OVER and (e.data is None or (e.data.scale or 0) < LOUD_RMS)


def _alike(e: Evidence) -> tuple[str, str, float] | None:
    """A layer whose units all start with the same weights, and nothing tells them apart: its name, in words, a weight.
    A last layer of zeros moves at the first step and is sound.
    """
    weights = e.weights
    if weights is None or failed(e):
        return None
    poor = learned_little(e) or (e.fit is not None and e.fit.end >= POOR)
    if weights.zero_stays is not None and (poor or weights.zero_share >= MOST):
        text = f"{weights.zero_stays} starts with nothing but zeros, gets gradients of zero and is zero at the end"
        return weights.zero_stays, text, 5.0
    if weights.zero_layer is not None and learned_nothing(e):
        text = f"{weights.zero_layer} starts with nothing but zeros: its units are all alike, and stay so"
        return weights.zero_layer, text, 3.5
    if weights.zero_layer is not None and weights.zeros_first >= ALL:
        text = f"{percent(round(weights.zeros_first, 2))} of the weights start at zero, {weights.zero_layer} and more: "
        return weights.zero_layer, f"{text}no layer hands on what it is given", 4.0
    if weights.constant_layer is not None and poor:
        text = f"all weights of {weights.constant_layer} start with the same number: its units are all alike"
        return weights.constant_layer, text, 3.5
    return None


def _non_finite(e: Evidence, name: str, step: int) -> Answer:
    if step > 0:
        return None
    what = f"{name} was NaN or Inf before the first step"
    return Verdict(CERTAIN, f"{what}.", (Fact(what, step=0, layer=name.rpartition(".")[0] or None),))


def _clues(e: Evidence) -> list[Clue]:
    found: list[Clue] = []
    weights, outputs, loss, data = e.weights, e.activations, e.loss, e.data
    alike = _alike(e)
    if alike is not None:
        layer, text, weight = alike
        return [clue(weight, text, 0.0, NEXT_TO_NOTHING, 0, layer)]
    if weights and weights.worst_gain is not None and weights.worst_gain >= GAIN:
        weight = 3.5 if weights.worst_gain >= FAR_GAIN else 2.0
        text = f"{weights.worst_layer} starts with std {num(weights.worst_std)}: std * sqrt(fan-in) is " + num(
            weights.worst_gain
        )
        found.append(clue(weight, text, weights.worst_gain, GAIN, 0, weights.worst_layer))
    elif weights and weights.worst_gain is not None and 0 < weights.worst_gain <= NEXT_TO_NOTHING and not failed(e):
        text = f"the largest weights, {weights.worst_layer}, start with std {num(weights.worst_std)}: "
        text += f"std * sqrt(fan-in) is {num(weights.worst_gain)}"
        found.append(clue(4.0, text, weights.worst_gain, NEXT_TO_NOTHING, 0))
        return found
    elif weights and weights.faint is not None and _faint(e) and not failed(e):
        name, gain, share = weights.faint
        text = f"{percent(round(share, 2))} of the weights, {name} and more, start next to nothing: "
        text += f"std * sqrt(fan-in) is {num(gain)} at most"
        return [clue(4.0, text, gain, NEXT_TO_NOTHING, 0, name)]
    elif weights and weights.worst_gain is not None and _felt(e):
        text = f"{weights.worst_layer} starts with std {num(weights.worst_std)}, and the first loss shows it"
        found.append(clue(2.5, text, weights.worst_gain, RULE, 0, weights.worst_layer))
    elif weights and weights.worst_gain is not None:
        amplified = outputs is not None and not (outputs.amplification or 0) < AMPLIFIES
        found.append(
            clue(
                -1.0 if amplified else -2.0,
                f"all weights start within the fan-in rule (gain {num(weights.worst_gain)})",
            )
        )
    per_matrix = gain_per_matrix(e)
    if per_matrix is not None and per_matrix >= GAIN and e.gradients is not None and failed(e):
        text = f"the first gradient norm is {num(e.gradients.first)}, a factor of {num(per_matrix)} for each matrix: "
        text += "no rule draws such weights"
        found.append(clue(4.0, text, per_matrix, GAIN, 0))
    if weights and weights.loud_bias is not None and _biased(e):
        name, size = weights.loud_bias
        found.append(clue(5.0, f"{name} starts at {num(size)}", size, LOUD_BIAS, 0, name))
    half = half_overflow(e.bad)  # then what is not finite tells of the type, not of the weights
    far = weights is not None and (weights.worst_gain or 0) >= FAR_GAIN
    if half and far:
        pass
    elif outputs and outputs.amplification is not None and half and not math.isfinite(outputs.amplification):
        found.append(clue(-1.5, "a float16 value passed 65504: without that the first pass would have been finite"))
    elif outputs and outputs.amplification is not None and outputs.amplification >= AMPLIFIES:
        text = f"the first forward pass amplifies by {num(outputs.amplification)} up to {outputs.first_layer}"
        weight = 3.5 if outputs.amplification >= FAR_AMPLIFIES else 2.5
        found.append(clue(weight, text, outputs.amplification, AMPLIFIES, 0, outputs.first_layer))
    elif outputs and outputs.amplification is not None and outputs.amplification >= LOUDER:
        felt = weights is not None and (weights.worst_gain or 0) >= FAR_GAIN
        text = f"the first forward pass amplifies by {num(outputs.amplification)} up to {outputs.first_layer}"
        found.append(clue(1.5 if felt else 0.0, text, outputs.amplification, LOUDER, 0, outputs.first_layer))
    elif outputs and _hides(e):
        found.append(clue(0.0, "the first forward pass keeps its scale"))
    elif outputs:
        found.append(clue(-1.5, "the first forward pass keeps its scale"))
    if loss and not half and not abs(loss.first) < ABSURD:
        found.append(clue(0.7, f"the first loss was {num(loss.first)}", loss.first, ABSURD, 0))
    over = loss.first_over_expected if loss else None
    if loss and half and not math.isfinite(loss.first):
        pass
    elif loss and over is not None and not over < LOSS_OVER:
        text = f"first loss {num(loss.first)}, expected {num(loss.expected)} ({loss.expected_from})"
        found.append(clue(1.5, text, loss.first, loss.expected, 0))
    elif over is not None and weights and _hides(e) and (weights.worst_gain or 0) >= FAR_GAIN:
        found.append(clue(0.0, f"the first loss is ordinary, but saturated units hide weights: {num(over)}"))
    elif over is not None:
        found.append(clue(-2.5, f"the first loss is ordinary: {num(over)} times the expected"))
    if data and data.first_absmax is not None and data.first_absmax >= LOUD_DATA:
        found.append(clue(-3.0, f"the data are loud: values up to {num(data.first_absmax)}"))
    if e.onset.step > EARLY and failed(e) and not diverged(e):
        found.append(clue(-2.0, f"it went well until step {e.onset.step}"))
    return found


def remedies(e: Evidence) -> tuple[Remedy, ...]:
    weights, outputs = e.weights, e.activations
    docs = "https://docs.pytorch.org/docs/stable/nn.init.html"
    name = "weights"
    change = "every weight by the fan-in rule: std = sqrt(2 / fan_in) before ReLU"
    if weights and weights.worst_std and weights.worst_gain and weights.worst_gain > 1.42:
        name = weights.worst_layer or name
        change = f"{name}: std {num(weights.worst_std)} -> {num(weights.worst_std * 1.41 / weights.worst_gain)}"
    initialise = Remedy(
        "Initialise by the fan-in rule",
        change,
        docs,
        None,
        "torch.nn.init.kaiming_normal_(layer.weight); torch.nn.init.zeros_(layer.bias)",
    )
    gain = f" (now {num(outputs.amplification)} times the input)" if outputs and outputs.amplification else ""
    normalise = Remedy(
        "Keep each layer's output near 1",
        f"a LayerNorm between the layers{gain}",
        "https://docs.pytorch.org/docs/stable/generated/torch.nn.LayerNorm.html",
        None,
        "torch.nn.LayerNorm(features)",
    )
    return (initialise, nan_guide.start_over(e), normalise, nan_guide.clip_one(e), repair_not_skip.repair_weights(e))


CAUSE = Cause("bad-initialization", "The weights were wrong before the first step", __doc__, judge, remedies)
