"""How gradients turn from step to step and how the loss bends along an update, from sampled elements (E13, E14, E18).

The samples of all parameters are one vector; an element stands for as many as it was taken out of. A product of two
steps' vectors costs a microsecond; they are never more than 2,048 elements for each parameter.
"""

import math
import weakref
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..run import Run
from ..stats import detach, local

DENOMINATORS = ("exp_avg_sq", "square_avg", "sum")  # state of Adam, RMSprop, Adagrad: the square of the denominator


@dataclass
class Sampled:
    """Of one optimizer: what the last steps left."""

    key: tuple[int, ...]  # the parameters that it is made of
    weight: Tensor  # how many elements each sampled one stands for
    gradient: Tensor
    moved: Tensor | None = None  # the last update


class Dynamics:
    def __init__(self, run: Run) -> None:
        self.run = run
        self.kept: weakref.WeakKeyDictionary[Any, Sampled] = weakref.WeakKeyDictionary()

    def gradients(self, optimizer: Any, number: int, parts: list[tuple[int, Tensor, int]], scale: float) -> None:
        """parts: identity of the parameter, sample of its gradient, elements that each sampled one stands for."""
        run = self.run
        parts = [part for part in parts if part[1].device == parts[0][1].device]
        if not parts:
            return
        vector = torch.cat([sample for _, sample, _ in parts]).float()
        if scale != 1.0:
            vector /= scale
        key = tuple(identity for identity, _, _ in parts)
        kept = self.kept.get(optimizer)
        if kept is None or kept.key != key or kept.gradient.numel() != vector.numel():
            weight = torch.cat([torch.full((sample.numel(),), float(stride)) for _, sample, stride in parts])
            self.kept[optimizer] = Sampled(key, weight.to(vector.device), vector)
            return
        before, kept.gradient, moved, kept.moved = kept.gradient, vector, kept.moved, None
        weighted = vector * kept.weight
        numbers = [torch.dot(weighted, vector), torch.dot(before * kept.weight, before), torch.dot(weighted, before)]
        if moved is not None and moved.numel() == vector.numel():
            weighted = moved * kept.weight
            numbers += [torch.dot(weighted, before), torch.dot(weighted, vector - before)]
        found = torch.stack(numbers).tolist()
        subject = run.recorder.subject(f"{number}", "optimizer")
        size = math.sqrt(abs(found[0])) * math.sqrt(abs(found[1]))
        if size > 0 and math.isfinite(size):
            run.recorder.value("gradient_cosine", subject, found[2] / size)
        if len(found) == 5 and found[3] and math.isfinite(found[3]) and math.isfinite(found[4]):
            row = (found[3], 0.0, found[4] / (-2 * found[3]))
            run.recorder.add("curvature", subject, row)

    def moved(self, optimizer: Any, parts: list[tuple[int, Tensor]]) -> None:
        """The update of the step that just ended, from the same elements."""
        kept = self.kept.get(optimizer)
        if kept is None:
            return
        by_parameter = dict(parts)
        wanted = [by_parameter.get(identity) for identity in kept.key]
        if all(part is not None for part in wanted):
            kept.moved = torch.cat([part for part in wanted if part is not None]).float()

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
