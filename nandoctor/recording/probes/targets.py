"""What the loss was computed with, read from what its graph saved: the scale of float targets, and how far the model
is better than a constant answer.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ..autopsy.values import packed, unpacked
from ..looks import looking
from ..run import Run
from ..stats import detach, is_countable, is_plain_float, item, measure
from . import by_hand, exchanged
from .labels import near

PAIRS = {  # node -> whether what it saved as `self` are logits
    "MseLossBackward0": False,
    "SmoothL1LossBackward0": False,
    "HuberLossBackward0": False,
    "BinaryCrossEntropyBackward0": False,
    "BinaryCrossEntropyWithLogitsBackward0": True,
}
CLASSES = ("NllLossBackward0", "NllLoss2DBackward0")
LARGEST = 4_000_000  # elements: larger outputs are not worth a pass of their own
FEW = 4  # samples below which a constant answer says nothing
FLOOR = -100.0  # torch's own bound on a logarithm of a probability
SAME = 1e-12  # targets that are all alike have no chance to be better than


def look(run: Run, loss: Tensor) -> None:
    """A `target` row for every float target; at a look a `fit` row for every term of the loss that is understood."""
    recorder = run.recorder
    if not recorder.governor.whole or loss.grad_fn is None:
        return
    look, root = looking(recorder), loss.grad_fn
    one = not look and (root.name() in PAIRS or root.name() in CLASSES)  # what lies below it are the model's answers
    nodes = [root] if one else list(near(root))
    whole = set(_alone(root)) if look else set()
    if look:
        exchanged.look(run, loss)
        _by_hand(run, nodes, whole)
    for node in nodes:
        name = node.name()
        if (name not in PAIRS and name not in CLASSES) or packed(node, "self") or packed(node, "target"):
            continue
        given, target = unpacked(node, "self"), unpacked(node, "target")
        if not isinstance(given, Tensor) or not isinstance(target, Tensor) or not is_plain_float(given):
            continue
        subject = recorder.subject(name.removesuffix("Backward0"), "loss")
        if name in PAIRS and is_plain_float(target):
            recorder.add("target", subject, measure(target), target)
        if look and name in PAIRS and crossed(given, target):
            recorder.said("crossed", loss=name.removesuffix("Backward0"), rows=float(max(given.shape)))
        if look and given.numel() <= LARGEST:
            row = _classes(node, given, target) if name in CLASSES else _fit(name, detach(given), detach(target))
            _add(run, subject, row, node in whole)


def _alone(node: Any) -> Iterator[Any]:
    """The nodes that the whole loss goes through: nothing is added to what they made."""
    while node is not None:
        yield node
        below = [given for given, _ in node.next_functions if given is not None]
        node = below[0] if len(below) == 1 else None


def _add(run: Run, subject: int, row: tuple[float, float] | None, alone: bool) -> None:
    if row is not None:
        run.recorder.add("fit", subject, (1.0 if alone else 2.0, *row))


def _by_hand(run: Run, nodes: list[Any], whole: set[Any]) -> None:
    recorder = run.recorder
    for node, output, target in by_hand.residuals(run, nodes):
        subject = recorder.subject("difference", "loss")
        recorder.add("target", subject, measure(target), target)
        _add(run, subject, _fit("MseLossBackward0", output, target), node in whole)
    for rows in by_hand.crossings(run, nodes):
        recorder.said("crossed", loss="difference", rows=float(rows))
    for node, chances, labels in by_hand.picked(nodes):
        _add(run, recorder.subject("log_softmax", "loss"), _likelihood(chances, labels), node in whole)
    for node, name, own, chance in by_hand.likelihoods(run, nodes):
        _add(run, recorder.subject(name, "loss"), _row(own, chance), node in whole)
    run.outputs.clear()


def crossed(given: Tensor, target: Tensor) -> bool:
    """Answers of shape [N, 1] and targets of shape [N], both expanded to [N, N]: each is compared with all others."""
    if given.shape != target.shape or target.requires_grad:
        return False
    spread = [d for d in range(given.dim()) if given.shape[d] > 1 and given.stride(d) == 0 and target.stride(d) != 0]
    other = [d for d in range(given.dim()) if given.shape[d] > 1 and given.stride(d) != 0 and target.stride(d) == 0]
    return any(given.shape[a] == given.shape[b] >= FEW for a in spread for b in other)


def _fit(name: str, given: Tensor, target: Tensor) -> tuple[float, float] | None:
    """A row of the error, against that of the best constant answer for each output."""
    if given.shape != target.shape or not target.is_floating_point() or target.dim() < 1 or len(target) < FEW:
        return None
    count, given, target = len(target), given.double(), target.double()
    mean = target.mean(0)
    if PAIRS[name] or name.startswith("Binary"):
        likely = given.sigmoid() if PAIRS[name] else given
        costs = likely.log().clamp(min=FLOOR), torch.log1p(-likely).clamp(min=FLOOR)
        own = -(target * costs[0] + (1 - target) * costs[1]).mean()
        floor = -(torch.xlogy(target, target) + torch.xlogy(1 - target, 1 - target)).mean()
        chance = -(torch.xlogy(mean, mean) + torch.xlogy(1 - mean, 1 - mean)).mean()
        own, chance = own - floor, chance - floor  # of soft targets the best answer costs something, too
    else:
        own, chance = (given - target).square().mean(), (target - mean).square().mean()
    return _row(item(own), item(chance) * count / (count - 1))


def _classes(node: Any, given: Tensor, target: Tensor) -> tuple[float, float] | None:
    if not is_countable(target) or given.dim() < 2 or unpacked(node, "weight") is not None:
        return None
    chosen = detach(given).movedim(1, -1).reshape(-1, given.shape[1])
    labels = target.reshape(-1)
    return _likelihood(chosen, labels)


def _likelihood(chosen: Tensor, labels: Tensor) -> tuple[float, float] | None:
    """The mean log-probability of the labels, against that of their own frequencies."""
    kept = (labels >= 0) & (labels < chosen.shape[1])
    chosen, labels = chosen[kept], labels[kept]
    if len(labels) < FEW:
        return None
    own = -item(chosen.gather(1, labels.unsqueeze(1)).double().mean())
    counts = torch.bincount(labels).double()
    shares = counts[counts > 0] / len(labels)
    entropy = -item((shares * shares.log()).sum())
    frequencies = entropy + (len(shares) - 1) / (2 * len(labels))  # a sample's entropy is too low by as much
    blind = item((chosen > -math.inf).sum(1).double().log().mean())  # the same chance for all that is not masked
    return _row(own, min(frequencies, blind))


def _row(own: float, chance: float) -> tuple[float, float] | None:
    return (chance, own / chance) if chance > SAME and math.isfinite(own) else None
