"""Was each step too large for the loss? Read before onset, by lr-too-high and by its neighbour."""

import math

from ..evidence import Evidence, Optimizer
from .failure import HOT_RATIO, failed
from .weighing import Clue, clue
from .wording import num, percent

VERY_HOT = 0.1  # a tenth of the weights: study's lr-too-high median is 0.18; small healthy runs reach 0.06
WARM = 0.01  # above all healthy runs of the study (p90 0.0041), below its failing ones (p10 0.036)
ORDINARY = 0.003  # where healthy runs live (p10 0.0005, p90 0.0041)
PROMISED_TOO_MUCH = 3.0  # a step that promises to cut three losses cannot keep it; hot healthy runs reach 2.3
LARGE_GRADIENT = 100.0  # times what the first loss explains: at lr 0.1 that is as much as the weights of a small model
LARGE_FIRST = 1e3  # times what the first loss explains, although the weights are ordinary
LOUD_DATA = 1e3  # data that were never normalised make it large by themselves
LOUD_RMS = 30.0  # of inputs or targets; normalised ones have 1, and curvature a thousandth of it
OVERSHOT = 0.6  # of the promised decrease (E10): study's lr-too-high keep at most 0.06, its healthy runs 0.91 to 1
KEPT = 0.9
AT_THE_EDGE = 4.0  # times the step at which the loss is back (E12): p90 of the study's lr-too-high
ROOM = 16.0  # p10 of its healthy runs
BROKEN = 1e-3  # not even a thousandth of the step helps: then the point itself is broken (E12), whatever the step size
PROBED = 3.0  # both separated the study's causes without an error
SANE = -1.5  # lr 0.1 without momentum, 0.01 with 0.9: where guides begin
ABOVE_CUSTOM = 1.5  # lr / (1 - momentum); 0.1 with momentum 0.9 makes 1, what image models are given by custom
CUSTOM = {"adagrad": 10.0, "adadelta": 1000.0}  # times Adam's: the sum of all squares divides it; torch's default is 1
PROMISED_LITTLE = 0.05  # healthy SGD: far below Polyak's step


def ratio_before(e: Evidence) -> float | None:
    """Updates against weights before onset; of the first step where there was nothing before."""
    if e.optimizer is None:
        return None
    hottest, whole = e.optimizer.hottest_ratio, e.optimizer.update_ratio
    if whole is None:
        whole = e.optimizer.update_ratio_first
    if e.bad is None and whole is not None:  # diverged without NaN: weights are large since the first steps
        whole = max(whole, e.optimizer.update_ratio_first or 0.0)
    if hottest is None or whole is None:
        return whole
    return max(whole, hottest / 2)  # one matrix alone may run hot; the study's numbers are medians over layers


def explained_by_data(e: Evidence) -> bool:
    """Curvature grows with the square of what a layer is given: a sane step size is too large for loud data alone."""
    data, optimizer = e.data, e.optimizer
    if data is None or optimizer is None or data.scale is None or data.scale < LOUD_RMS:
        return False
    return lr_weight(optimizer, optimizer.lr_peak) <= 0 or data.scale >= LOUD_DATA  # the curvature, by a million


def gradient_explains(e: Evidence) -> bool:
    """Whether updates are large because the very first gradient was, at a step size that is sane."""
    if e.optimizer is None or e.gradients is None or e.optimizer.adaptive:
        return False
    return lr_weight(e.optimizer) <= 0 and not first_gradient(e) < LARGE_GRADIENT


def first_gradient(e: Evidence) -> float:
    """The first gradient norm against its loss. The gradient of a squared error grows as the error, its root; where
    the data themselves are loud, they explain the gradient and it stands as it is. NaN where it is not finite.
    """
    if e.gradients is None:
        return 0.0
    loud = e.data is not None and e.data.first_absmax is not None and e.data.first_absmax >= LOUD_DATA
    loss = abs(e.loss.first) if e.loss is not None and math.isfinite(e.loss.first) else 0.0
    return e.gradients.first if loud else e.gradients.first / max(1.0, math.sqrt(loss))


def unseen_leap(e: Evidence) -> bool:
    """The loss leapt, and neither inputs nor layers were seen (tensors without modules): a tenth of the weights changes
    outputs by a part of themselves, not their error ten-thousandfold. What changed is the batch.
    """
    seen = e.activations is not None or (e.data is not None and e.data.rms is not None)
    return e.leap is not None and not seen and e.leap.moved <= VERY_HOT


def unexplained(e: Evidence) -> float | None:
    """The first loss over what the model's outputs make of it. Where these were not seen, by the gradient:
    d(f - y)^2 = 2 (f - y) df, so that outputs as loud as the error would have a slope as loud.
    """
    loss = e.loss
    if loss is None or loss.unexplained is not None or e.activations is not None:
        return loss.unexplained if loss is not None else None
    slope, alone = first_gradient(e), e.optimizer is not None and e.optimizer.optimizers <= 1
    if not alone or not math.isfinite(loss.first) or not slope <= LARGE_GRADIENT:
        return None
    return loss.first / (1 + slope * slope)


def gain_per_matrix(e: Evidence) -> float | None:
    """Of weights that nobody saw before the first step: the first gradient is what so many matrices made together.
    None where they were seen, or where layers are used over and over.
    """
    seen = e.weights is not None and e.weights.worst_gain is not None
    if seen or e.depth is None or e.depth.matrices < 1 or (e.activations is not None and e.activations.unrolled > 1):
        return None
    large = first_gradient(e)
    return large ** (1 / e.depth.matrices) if 1 <= large < math.inf else None


def probed_clues(e: Evidence) -> list[Clue]:
    """What `record --probe` measured on the steps' own batches. Positive weight: steps too large."""
    rho, factor = (e.overshoot.rho, e.overshoot.factor) if e.overshoot is not None else (None, None)
    if factor is not None and factor < BROKEN:
        return []
    parts = []
    if rho is not None:
        parts.append(f"steps kept {percent(rho)} of the decrease that they promised")
    if factor is not None:
        parts.append(f"the loss rose beyond {num(factor)} times the step")
    text = f"probed: {', '.join(parts)}"
    measured = [(rho, OVERSHOT), (factor, AT_THE_EDGE)]
    over = [value <= limit for value, limit in measured if value is not None]
    if any(over):
        value, limit = next(pair for pair in measured if pair[0] is not None)
        return [clue(PROBED if all(over) else PROBED / 2, text, value, limit)]
    if rho is not None and factor is not None and rho >= KEPT and factor >= ROOM:
        return [clue(-PROBED, text, rho, KEPT)]
    return []


def steps_were_sound(e: Evidence) -> list[Clue]:
    """The same for the neighbours of lr-too-high, for which it is the other way round."""
    return [Clue(-each.weight, each.fact) for each in probed_clues(e)]


def overshoot_clues(e: Evidence) -> list[Clue]:
    """Positive weight: steps too large."""
    found = probed_clues(e)
    optimizer, ratio = e.optimizer, ratio_before(e)
    if optimizer is None:
        return found
    if not failed(e):  # there is no onset: the hottest of the run is what threw it where it is
        return [*found, *_hottest(optimizer)]
    if gradient_explains(e) and e.gradients is not None:
        return [clue(-2.0, f"the first gradient norm was {num(e.gradients.first)} at a sane lr {num(optimizer.lr)}")]
    if ratio is not None:
        text = f"updates were {percent(ratio)} of the weights before onset"
        weight = _by_ratio(ratio)
        if weight > 0 and grown_hot(optimizer):
            weight /= 2  # updates of plain SGD are large because gradients are, as well as because lr is
        found.append(clue(weight, text, ratio, HOT_RATIO, e.onset.step, optimizer.hottest_layer))
    promised = None if optimizer.adaptive else optimizer.promised
    if promised is not None and promised >= PROMISED_TOO_MUCH:
        text = f"each step promised to cut {num(promised)} times the whole loss"
        found.append(clue(1.5, text, promised, PROMISED_TOO_MUCH))
    elif promised is not None and promised < PROMISED_LITTLE:
        found.append(clue(-1.0, f"a step promised to cut only {percent(promised)} of the loss", promised))
    weight = lr_weight(optimizer)
    if optimizer.lr is not None and weight:
        word = "high" if weight > 0 else "ordinary"
        momentum = optimizer.settings.get("momentum", 0.0)
        extra = f", momentum {num(momentum)}" if momentum else ""
        found.append(clue(weight, f"lr {num(optimizer.lr)}{extra} is {word} for {optimizer.name}", optimizer.lr))
    return found


def _hottest(optimizer: Optimizer) -> list[Clue]:
    found = []
    if optimizer.update_ratio_peak is not None:
        text = f"the hottest update was {percent(optimizer.update_ratio_peak)} of the weights"
        found.append(clue(_by_ratio(optimizer.update_ratio_peak), text, optimizer.update_ratio_peak, HOT_RATIO))
    weight = lr_weight(optimizer, optimizer.lr_peak)
    if weight:
        word = "high" if weight > 0 else "ordinary"
        found.append(clue(weight, f"lr {num(optimizer.lr_peak)} is {word} for {optimizer.name}", optimizer.lr_peak))
    return found


def _by_ratio(ratio: float) -> float:
    if ratio >= VERY_HOT:
        return 3.0
    if ratio >= HOT_RATIO:
        return 1.2
    if ratio >= WARM:
        return 0.5
    return -2.0 if ratio >= ORDINARY else -3.0


def grown_hot(optimizer: Optimizer) -> bool:
    """SGD with a step size that nobody would call high, whose first update was none too large: its gradients grew."""
    sane = not optimizer.adaptive and lr_weight(optimizer) <= SANE
    return sane and (optimizer.update_ratio_first or 0.0) < VERY_HOT


def lr_weight(optimizer: Optimizer, lr: float | None = None) -> float:
    """How far the learning rate itself, at onset or as given, is out of what this kind of optimizer is given."""
    lr = optimizer.lr if lr is None else lr
    if lr is None:
        return 0.0
    if optimizer.adaptive:
        lr /= CUSTOM.get(optimizer.name.lower(), 1.0)
        return 2.0 if lr >= 0.05 else 1.0 if lr >= 0.01 else -1.5 if lr <= 1e-3 else 0.0
    effective = lr / max(1 - optimizer.settings.get("momentum", 0.0), 1e-3)
    return 1.5 if effective >= 5 else 0.5 if effective >= ABOVE_CUSTOM else SANE if effective <= 0.101 else 0.0
