"""Losses that a program writes itself, as far as their graph tells them: squares and absolute values of output minus
target, and the log-probabilities of labels that were picked out of a log_softmax.

What `output - target` was made of is in no graph. The model's last outputs are kept for it, small ones, from a look's
forward pass to its backward.
"""

import math
from collections.abc import Iterator
from typing import Any

from torch import Tensor, xlogy
from torch.nn.functional import logsigmoid

from ..autopsy.values import packed, unpacked
from ..looks import looking
from ..run import Run
from ..stats import detach, is_countable, is_plain_float

KEPT = 6  # outputs: a model may return several, and be called for several
FEW = 4  # elements below which a constant answer says nothing
ROUNDING = 1e-3  # of a probability
SMALL = 1_000_000  # elements that are worth holding on to
SAME_ORDER = ("ViewBackward0", "UnsafeViewBackward0", "ReshapeAliasBackward0", "SqueezeBackward0", "SqueezeBackward1",
              "SqueezeBackward2", "UnsqueezeBackward0", "AliasBackward0")  # fmt: skip


def remember(run: Run, returned: list[Tensor]) -> None:
    """What a root module has returned, until the next backward."""
    if run.mode != "train" or not looking(run.recorder):
        return
    for tensor in returned:
        if tensor.grad_fn is not None and is_plain_float(tensor) and tensor.numel() <= SMALL:
            run.outputs.append((source(tensor.grad_fn), detach(tensor), tensor._version, run.answered))
    run.answered += 1
    del run.outputs[:-KEPT]


def crossings(run: Run, nodes: list[Any]) -> Iterator[int]:
    """Rows of answers [N, 1] from which targets [N] were taken: the difference is [N, N]."""
    for _, difference, given, _ in _differences(run, nodes):
        rows = len(given)
        if rows >= FEW and tuple(given.shape) == (rows, 1) and tuple(difference.shape) == (rows, rows):
            yield rows


def residuals(run: Run, nodes: list[Any]) -> Iterator[tuple[Any, Tensor, Tensor]]:
    """(node, output, target) of every squared or absolute difference between an output of the model and a constant."""
    for node, difference, given, subtracted in _differences(run, nodes):
        if given.numel() == difference.numel():  # else computed further, or broadcast against the target
            given = given.reshape(difference.shape)
            yield node, given, given - difference if subtracted else given + difference


def _differences(run: Run, nodes: list[Any]) -> Iterator[tuple[Any, Tensor, Tensor, bool]]:
    """(node, what was squared or taken absolute, an output of the model in it, was something taken from it?)."""
    known = {number: kept for number, kept, version, _ in run.outputs if kept._version == version}
    for node in nodes:
        difference = _difference(node)
        below = node.next_functions[0][0] if difference is not None else None
        if difference is None or below is None or below.name() != "SubBackward0":
            continue
        sides = [side for side, _ in below.next_functions]
        if len(sides) != 2 or (sides[0] is None) == (sides[1] is None) or getattr(below, "_saved_alpha", 1) != 1:
            continue
        given = known.get(source(sides[0] or sides[1]))
        if given is not None:
            yield node, detach(difference), given, sides[0] is not None


def picked(nodes: list[Any]) -> Iterator[tuple[Any, Tensor, Tensor]]:
    """(node, log-probabilities, labels) where those of the labels alone go into the loss."""
    for node in nodes:
        field = {"GatherBackward0": "index", "IndexBackward0": "indices"}.get(node.name())
        below = node.next_functions[0][0] if field is not None and node.next_functions else None
        if field is None or below is None or below.name() != "LogSoftmaxBackward0":
            continue
        if packed(node, field) or packed(below, "result"):
            continue
        labels, chances = unpacked(node, field), unpacked(below, "result")
        labels = labels[-1] if isinstance(labels, (tuple, list)) and labels else labels
        if isinstance(labels, Tensor) and isinstance(chances, Tensor) and is_countable(labels) and chances.dim() == 2:
            if labels.numel() == len(chances) and int(getattr(below, "_saved_dim", -1)) in (1, -1, 2**64 - 1):
                yield node, detach(chances), labels.reshape(-1)


def _difference(node: Any) -> Tensor | None:
    """What was squared, or taken absolute."""
    name = node.name()
    if name not in ("PowBackward0", "AbsBackward0", "MulBackward0") or packed(node, "self"):
        return None
    value = unpacked(node, "self")
    if not isinstance(value, Tensor) or not is_plain_float(value) or value.dim() < 1:
        return None
    if name == "PowBackward0" and getattr(node, "_saved_exponent", None) != 2:
        return None
    if name == "MulBackward0":
        other = None if packed(node, "other") else unpacked(node, "other")
        if not isinstance(other, Tensor) or other.data_ptr() != value.data_ptr() or other.shape != value.shape:
            return None
    return value


def source(node: Any) -> int:
    """The node that computed the values: squeezing and viewing keep them in order."""
    while node.name() in SAME_ORDER and node.next_functions and node.next_functions[0][0] is not None:
        node = node.next_functions[0][0]
    return int(node._sequence_nr())


def likelihoods(run: Run, nodes: list[Any]) -> Iterator[tuple[Any, str, float, float]]:
    """(node, name, error, error of the best constant answer) of costs whose formula the graph tells: cross entropy and
    divergence against soft targets, the logistic cost of a margin, Poisson's.
    """
    for node in nodes:
        name = node.name()
        if name == "LogSigmoidBackward0" and not packed(node, "self"):
            margin = unpacked(node, "self")
            if isinstance(margin, Tensor) and is_plain_float(margin) and FEW <= margin.numel() <= SMALL:
                yield node, "logsigmoid", float(-logsigmoid(detach(margin).double()).mean()), math.log(2)  # margin 0
        elif name == "MulBackward0":
            found = _soft(node)
            if found is not None:
                yield node, "soft_targets", *found
        elif name == "SubBackward0":
            found = _poisson(node)
            if found is not None and math.isnan(found[0]):
                run.recorder.said("counts", low=found[1])
            elif found is not None:
                yield node, "poisson", *found


def _constant_factor(node: Any) -> tuple[Tensor, Any] | None:
    """(constant tensor, node below) of a product of the two."""
    below = [given for given, _ in node.next_functions]
    if len(below) != 2 or (below[0] is None) == (below[1] is None):
        return None
    field = "self" if below[0] is None else "other"
    # a factor that wants no gradient is saved for the other one's
    value = None if packed(node, field) else unpacked(node, field)
    if not isinstance(value, Tensor) or not is_plain_float(value) or not FEW <= value.numel() <= SMALL:
        return None
    return detach(value), below[0] or below[1]


def _soft(node: Any) -> tuple[float, float] | None:
    """Targets times log_softmax: without what the best answer for each sample costs, too."""
    found = _constant_factor(node)
    if found is None or found[1].name() != "LogSoftmaxBackward0" or packed(found[1], "result"):
        return None
    target, chances = found[0].double(), unpacked(found[1], "result")
    if not isinstance(chances, Tensor) or chances.shape != target.shape or target.dim() != 2 or len(target) < FEW:
        return None
    if not (target >= 0).all() or not ((target.sum(1) - 1).abs() < ROUNDING).all():
        return None
    mean, chances = target.mean(0), detach(chances).double()
    floor = -xlogy(target, target).sum(1).mean()
    own, chance = -(target * chances).sum(1).mean() - floor, -xlogy(mean, mean).sum() - floor
    return float(own), float(chance)


def _poisson(node: Any) -> tuple[float, float] | None:
    """exp(x) - y * x, with counts y."""
    sides = [given for given, _ in node.next_functions]
    if len(sides) != 2 or any(side is None for side in sides):
        return None
    if sides[0].name() != "ExpBackward0" or sides[1].name() != "MulBackward0" or packed(sides[0], "result"):
        return None
    found, rate = _constant_factor(sides[1]), unpacked(sides[0], "result")
    if found is None or not isinstance(rate, Tensor) or rate.shape != found[0].shape:
        return None
    if not (found[0] >= 0).all():
        return math.nan, float(found[0].min())
    counts, rate = found[0].double(), detach(rate).double()
    mean, floor = counts.mean(), (counts - xlogy(counts, counts)).mean()
    own, chance = (rate - xlogy(counts, rate)).mean() - floor, mean - xlogy(mean, mean) - floor
    return float(own), float(chance)
