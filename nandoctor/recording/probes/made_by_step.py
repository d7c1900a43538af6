"""Whether an optimizer's step can have made a weight bad that was fed finite gradients."""

import math
from typing import Any

import torch
from torch import Tensor

from ..stats import detach, local, plain
from .watched import Watched


def made_by_step(optimizer: torch.optim.Optimizer, w: Watched) -> bool:
    """Whether this step can have made the first bad element of a weight whose gradient is finite.

    A weight that was written between two steps is bad before the step already: a sample may have seen it; else
    the step made it only by a learning rate, a state or a product that is itself not finite, or a denominator of 0.
    """
    flat, grad = detach(local(w.parameter)).reshape(-1), plain(w.parameter.grad)
    place = int((~torch.isfinite(flat)).to(torch.uint8).argmax())
    if w.sampled is not None and place % w.stride == 0 and place // w.stride < w.sampled.numel():
        return math.isfinite(float(w.sampled[place // w.stride]))
    group = next(g for g in optimizer.param_groups if any(p is w.parameter for p in g["params"]))
    lr = float(group.get("lr") or 0.0)
    if not math.isfinite(lr) or grad is None:
        return not math.isfinite(lr)
    step = lr * float(detach(grad).reshape(-1)[place])
    if not math.isfinite(step) or abs(step) > torch.finfo(flat.dtype).max:
        return True
    return can_make(optimizer, group, w.parameter, 0.0)


def can_make(optimizer: torch.optim.Optimizer, group: dict[str, Any], parameter: Tensor, norm: float) -> bool:
    """Whether a step with finite gradients can have left this parameter bad, seen from what it left behind."""
    flat = detach(local(parameter)).reshape(-1)
    place = int((~torch.isfinite(flat)).to(torch.uint8).argmax())
    step = float(group.get("lr") or 0.0) * norm
    if not math.isfinite(step) or step > torch.finfo(flat.dtype).max / flat.numel():
        return True
    held = [local(v).reshape(-1)[place] for v in optimizer.state.get(parameter, {}).values() if _of_shape(v, flat)]
    bad = any(not math.isfinite(float(value)) for value in held)
    return bad or _divided_by_zero(optimizer, group, parameter, place)


def _of_shape(value: Any, flat: Tensor) -> bool:
    return isinstance(value, Tensor) and local(value).numel() == flat.numel()


def _divided_by_zero(optimizer: Any, group: dict[str, Any], parameter: Tensor, place: int) -> bool:
    state = optimizer.state.get(parameter, {})
    second = state.get("exp_avg_sq", state.get("square_avg"))
    if not isinstance(second, Tensor):
        return False
    eps = torch.tensor(float(group.get("eps", 1.0)), dtype=second.dtype)  # 1e-8 is 0 in float16
    return float(local(second).reshape(-1)[place].sqrt()) + float(eps) == 0.0
