"""Losses that a program writes itself, as far as their graph tells them: squares and absolute values of output minus
target, and the log-probabilities of labels that were picked out of a log_softmax.

What `output - target` was made of is in no graph. The model's last outputs are kept for it, small ones, from a look's
forward pass to its backward.
"""

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from ..autopsy.values import packed, unpacked
from ..looks import looking
from ..run import Run
from ..stats import detach, is_countable, is_plain_float

KEPT = 4  # outputs: a model may return several
SMALL = 1_000_000  # elements that are worth holding on to
SAME_ORDER = ("ViewBackward0", "UnsafeViewBackward0", "ReshapeAliasBackward0", "SqueezeBackward0", "SqueezeBackward1",
              "SqueezeBackward2", "UnsqueezeBackward0", "AliasBackward0")  # fmt: skip


def remember(run: Run, returned: list[Tensor]) -> None:
    """What a root module has returned, until the next backward."""
    if run.mode != "train" or not looking(run.recorder):
        return
    for tensor in returned:
        if tensor.grad_fn is not None and is_plain_float(tensor) and tensor.numel() <= SMALL:
            run.outputs.append((_source(tensor.grad_fn), detach(tensor), tensor._version))
    del run.outputs[:-KEPT]


def residuals(run: Run, nodes: list[Any]) -> Iterator[tuple[Any, Tensor, Tensor]]:
    """(node, output, target) of every squared or absolute difference between an output of the model and a constant."""
    known = {number: kept for number, kept, version in run.outputs if kept._version == version}
    for node in nodes:
        difference = _difference(node)
        below = node.next_functions[0][0] if difference is not None else None
        if difference is None or below is None or below.name() != "SubBackward0":
            continue
        sides = [side for side, _ in below.next_functions]
        if len(sides) != 2 or (sides[0] is None) == (sides[1] is None) or getattr(below, "_saved_alpha", 1) != 1:
            continue
        given = known.get(_source(sides[0] or sides[1]))
        if given is None or given.numel() != difference.numel():
            continue  # computed further, or broadcast against the target
        given, difference = given.reshape(difference.shape), detach(difference)
        yield node, given, given - difference if sides[0] is not None else given + difference


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


def _source(node: Any) -> int:
    """The node that computed the values: squeezing and viewing keep them in order."""
    while node.name() in SAME_ORDER and node.next_functions and node.next_functions[0][0] is not None:
        node = node.next_functions[0][0]
    return int(node._sequence_nr())
