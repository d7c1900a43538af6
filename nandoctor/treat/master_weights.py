"""Weights in half precision get float32 copies that the optimizer updates: steps below their rounding add up there."""

import torch
from torch import Tensor
from torch.optim import Optimizer

from ..causes import treatments
from ..recording.stats import detach
from .applied import Applied, Case, Gradients

HALF = (torch.float16, torch.bfloat16)


def kept(case: Case) -> Applied | None:
    if not any(p.dtype in HALF for o in case.optimizers for g in o.param_groups for p in g["params"]):
        return None
    masters: dict[int, Tensor] = {}
    waiting: list[tuple[Tensor, Tensor, Tensor | None]] = []  # parameter, its half values, its half gradient

    def before(found: Gradients) -> None:
        for parameter in found.parameters:
            if parameter.dtype not in HALF or parameter.grad is None:
                continue
            master = masters.get(id(parameter))
            if master is None or not torch.equal(master.to(parameter.dtype), detach(parameter)):
                master = masters[id(parameter)] = detach(parameter).float()  # rolled back, or written by the program
                widen(found.optimizer, parameter)
            half, gradient = parameter.data, parameter.grad
            parameter.grad = None
            parameter.data = master
            parameter.grad = gradient.float()
            waiting.append((parameter, half, gradient))

    def after(_: Optimizer) -> None:
        while waiting:
            parameter, half, gradient = waiting.pop()
            parameter.grad = None
            half.copy_(masters[id(parameter)])
            parameter.data = half
            parameter.grad = gradient

    return Applied(
        treatments.AMP_ORDER, "the optimizer updates float32 copies of the half-precision weights",
        "remove --active; to keep it, keep the weights in float32 and use autocast", {"kind": "float32-weights"},
        back="start" if case.run.recorder.step < 60 else "", gradients=before, after=after,
    )  # fmt: skip


def widen(optimizer: Optimizer, parameter: Tensor) -> None:
    state = optimizer.state.get(parameter)
    if isinstance(state, dict):
        for key, value in state.items():
            if isinstance(value, Tensor) and value.dtype in HALF:
                state[key] = value.float()
