"""Runs a training script as __main__ and notes its losses, and whether loss, gradients and weights stayed finite.

Knows nothing of nandoctor: torch's own backward and optimizer hooks, read plainly.
"""

import json
import math
import os
import runpy
import sys
import time

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

script = sys.argv[1]
report = os.environ.pop("CLINIC_REPORT")
losses: list[float] = []
bad, bad_step = "", None
steps = 0
scales: list[float] = []


def finite(tensors) -> bool:
    return all(bool(torch.isfinite(t).all()) for t in tensors if t is not None and t.is_floating_point())


def note(what: str) -> None:
    global bad, bad_step
    if not bad:
        bad, bad_step = what, steps


def backward(self, *args, **kwargs):
    if self.numel() == 1:
        value = float(self.detach()) / (scales[-1] if scales else 1.0)
        scales.clear()
        losses.append(value)
        if not math.isfinite(value):
            note("loss")
    return plain_backward(self, *args, **kwargs)


def scale(self, outputs):
    result = plain_scale(self, outputs)
    if isinstance(outputs, torch.Tensor) and self.is_enabled():
        scales.append(self.get_scale())
    return result


def parameters(optimizer):
    return [p for group in optimizer.param_groups for p in group["params"]]


def before(optimizer, args, kwargs):
    if len(args) > 1 or kwargs.get("closure"):  # the first is the optimizer itself
        return
    if not finite(p.grad for p in parameters(optimizer) if p.grad is not None and not p.grad.is_sparse):
        note("gradient")


def after(optimizer, args, kwargs):
    global steps
    if not finite(parameters(optimizer)):
        note("weight")
    steps += 1


def scaler_step(self, optimizer, *args, **kwargs):
    global steps
    before = steps
    result = plain_step(self, optimizer, *args, **kwargs)
    steps = before + 1  # a step that is left out counts
    return result


plain_backward, torch.Tensor.backward = torch.Tensor.backward, backward
plain_scale, torch.amp.GradScaler.scale = torch.amp.GradScaler.scale, scale
plain_step, torch.amp.GradScaler.step = torch.amp.GradScaler.step, scaler_step
register_optimizer_step_pre_hook(before)
register_optimizer_step_post_hook(after)
began = time.monotonic()
sys.argv = [script]
sys.path[0] = os.path.dirname(os.path.abspath(script))
try:
    runpy.run_path(script, run_name="__main__")
finally:
    tail = losses[-max(3, len(losses) // 10) :]
    with open(report, "w") as file:
        json.dump(
            {
                "first": sum(losses[:3]) / len(losses[:3]) if losses else None,
                "last": sum(tail) / len(tail) if tail else None,
                "bad": bad,
                "bad_step": bad_step,
                "seconds": time.monotonic() - began,
            },
            file,
        )
