"""How gradients turn from step to step and how the loss bends along an update, from sampled elements (E13, E14, E18).

The samples of all parameters are one vector; an element stands for as many as it was taken out of. A product of two
steps' vectors costs microseconds; they are never more than 2,048 elements for each parameter.
"""

import math
import weakref
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..run import Run
from ..samples import Samples, products
from ..stats import address, detach, kernel, local

DENOMINATORS = ("exp_avg_sq", "square_avg", "sum")  # state of Adam, RMSprop, Adagrad: the square of the denominator


@dataclass
class Sampled:
    """Of one optimizer: what the last steps left."""

    gradient: Samples
    own: float  # product of the gradient with itself
    moved: Tensor | None = None  # the last update


class Dynamics:
    def __init__(self, run: Run) -> None:
        self.run = run
        self.kept: weakref.WeakKeyDictionary[Any, Sampled] = weakref.WeakKeyDictionary()

    def gradients(self, optimizer: Any, number: int, samples: Samples, strides: list[int], scale: float) -> None:
        """samples: of the gradients; strides: how many elements each sampled one stands for."""
        run = self.run
        vector = samples.vector
        if scale != 1.0:
            vector /= scale
        kept = self.kept.get(optimizer)
        if kept is None or not samples.like(kept.gradient):
            self.kept[optimizer] = Sampled(samples, _products(samples, samples, None, strides)[0])
            return
        found = _products(samples, kept.gradient, kept.moved, strides)
        size = math.sqrt(abs(found[0])) * math.sqrt(abs(kept.own))
        kept.gradient, kept.own, kept.moved = samples, found[0], None
        subject = run.recorder.subject(f"{number}", "optimizer")
        if size > 0 and math.isfinite(size):
            run.recorder.value("gradient_cosine", subject, found[1] / size)
        if found[2] and math.isfinite(found[2]) and math.isfinite(found[3]):
            row = (found[2], 0.0, found[3] / (-2 * found[2]))
            run.recorder.add("curvature", subject, row)

    def moved(self, optimizer: Any, before: Samples, by: Tensor) -> None:
        """What the step that just ended changed the same elements of the weights by."""
        kept = self.kept.get(optimizer)
        if kept is not None and before.like(kept.gradient):
            kept.moved = by

    def look(
        self, optimizer: Any, parameter: Tensor, subject: int, gradient: Tensor, update: Tensor, stride: int,
        eps: float | None,
    ) -> None:  # fmt: skip
        """Samples of one parameter's gradient and update, and of the optimizer's denominator."""
        square = _denominator(optimizer, parameter) if eps is not None else None
        found = _unmoved(gradient, update, square, stride, eps or 0.0)
        own = local(parameter)
        self.run.recorder.add("unmoved", subject, (0.0, found[1], found[0]), own)
        if square is not None:
            self.run.recorder.add("denominator", subject, (found[3], float(-(-own.numel() // stride)), found[2]), own)


def _products(now: Samples, before: Samples, moved: Tensor | None, strides: list[int]) -> tuple[float, ...]:
    """now*now, now*before, moved*before, moved*(now - before), every element as often as it stands for others."""
    if kernel is not None and now.plan and before.vector.dtype is torch.float32:
        held = moved.data_ptr() if moved is not None else 0
        return kernel.products(now.vector.data_ptr(), before.vector.data_ptr(), held, now.plan)
    pairs = [(now.vector, now.vector), (now.vector, before.vector)]
    if moved is not None:
        pairs += [(moved, before.vector), (moved, now.vector - before.vector)]
    return (*products(pairs, now.lengths, strides), 0.0, 0.0)[:4]


def _unmoved(gradient: Tensor, update: Tensor, square: Tensor | None, stride: int, eps: float) -> tuple[float, ...]:
    """Elements with a gradient but no update, those with a gradient, denominators below eps, those of 0.

    square: all elements of the square of the denominator, of which every `stride`th is read.
    """
    read = [gradient, update] + ([square] if square is not None else [])
    places = [address(x) if x.dtype is torch.float32 else 0 for x in read]
    if kernel is not None and all(places):
        place, every = (places[2], stride) if square is not None else (0, 0)
        return kernel.unmoved(places[0], places[1], place, gradient.numel(), every, eps)
    held = gradient != 0
    numbers = [(held & (update == 0)).sum(), held.sum()]
    if square is not None:
        root = square.reshape(-1)[::stride].float().sqrt()
        numbers += [(root < eps).sum(), (root == 0).sum()]
    return tuple(float(n) for n in torch.stack(numbers).tolist())


def _denominator(optimizer: Any, parameter: Tensor) -> Tensor | None:
    state = optimizer.state.get(parameter)
    if not isinstance(state, dict):
        return None
    for name in DENOMINATORS:
        value = local(state[name]) if isinstance(state.get(name), Tensor) else None
        if value is not None and value.shape == local(parameter).shape and value.is_floating_point():
            return detach(value)
    return None


def epsilons(optimizer: Any) -> dict[int, float]:
    """eps by the parameter's identity, for groups that have one."""
    return {
        id(parameter): float(group["eps"])
        for group in optimizer.param_groups
        if isinstance(group.get("eps"), (int, float))
        for parameter in group["params"]
    }
