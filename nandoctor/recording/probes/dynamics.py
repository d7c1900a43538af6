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
from ..stats import detach, local

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
            self.kept[optimizer] = Sampled(samples, products([(vector, vector)], samples.lengths, strides)[0])
            return
        before, moved = kept.gradient.vector, kept.moved
        pairs = [(vector, vector), (vector, before)]
        if moved is not None:
            pairs += [(moved, before), (moved, vector - before)]
        found = products(pairs, samples.lengths, strides)
        size = math.sqrt(abs(found[0])) * math.sqrt(abs(kept.own))
        kept.gradient, kept.own, kept.moved = samples, found[0], None
        subject = run.recorder.subject(f"{number}", "optimizer")
        if size > 0 and math.isfinite(size):
            run.recorder.value("gradient_cosine", subject, found[1] / size)
        if len(found) == 4 and found[2] and math.isfinite(found[2]) and math.isfinite(found[3]):
            row = (found[2], 0.0, found[3] / (-2 * found[2]))
            run.recorder.add("curvature", subject, row)

    def moved(self, optimizer: Any, before: Samples, after: Samples) -> None:
        """The weights around the step that just ended, by the same elements."""
        kept = self.kept.get(optimizer)
        if kept is not None and before.like(kept.gradient):
            kept.moved = after.vector - before.vector

    def look(
        self, optimizer: Any, parameter: Tensor, subject: int, gradient: Tensor, update: Tensor, stride: int,
        eps: float | None,
    ) -> None:  # fmt: skip
        """Samples of one parameter's gradient and update, and of the optimizer's denominator."""
        held = gradient != 0
        numbers = [(held & (update == 0)).sum(), held.sum()]
        square = _denominator(optimizer, parameter, stride)
        if square is not None and eps is not None:
            root = square.float().sqrt()
            numbers += [(root < eps).sum(), (root == 0).sum()]
        found = [float(n) for n in torch.stack(numbers).tolist()]
        self.run.recorder.add("unmoved", subject, (0.0, found[1], found[0]), local(parameter))
        if len(found) == 4 and square is not None:
            self.run.recorder.add("denominator", subject, (found[3], float(square.numel()), found[2]), local(parameter))


def _denominator(optimizer: Any, parameter: Tensor, stride: int) -> Tensor | None:
    state = optimizer.state.get(parameter)
    if not isinstance(state, dict):
        return None
    for name in DENOMINATORS:
        value = local(state[name]) if isinstance(state.get(name), Tensor) else None
        if value is not None and value.shape == local(parameter).shape and value.is_floating_point():
            return detach(value).reshape(-1)[::stride]
    return None


def epsilons(optimizer: Any) -> dict[int, float]:
    """eps by the parameter's identity, for groups that have one."""
    return {
        id(parameter): float(group["eps"])
        for group in optimizer.param_groups
        if isinstance(group.get("eps"), (int, float))
        for parameter in group["params"]
    }
