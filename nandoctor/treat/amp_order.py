"""Mixed precision in the right order: scale, backward, unscale, clip, step, update, whatever the script does."""

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from ..causes import treatments
from ..recording.stats import detach
from . import loss_scale
from .applied import Applied, Case
from .hooks import before_clip
from .patched import patched_method

MOST = 0.9  # as in causes/amp_misuse.py
FEW, HALF = 5, 0.5
CLIPS = 3


def mended(case: Case) -> Applied | None:
    calls, gradients = case.evidence.scaler, case.evidence.gradients
    if case.run.scalers is None:
        return None
    if calls is not None and calls.seen_steps and calls.stepped_scaled >= MOST * calls.seen_steps:
        return unscaled_before_step(case)
    if calls is not None and calls.beside >= FEW and calls.beside >= HALF * calls.steps:
        return unscaled_before_step(case)
    if calls is not None and calls.scaled and (calls.unscaled_backwards or 0) >= MOST:
        return scaled_backward(case)
    if gradients is not None and gradients.clipped_while_scaled >= CLIPS:
        return unscaled_before_clip(case)
    return loss_scale.supplied(case)


def unscaled_before_clip(case: Case) -> Applied:
    scalers = case.run.scalers

    def clipping() -> None:
        for optimizer in case.optimizers:
            scaler = scalers.holding_scaled(optimizer)
            if scaler is not None and any(p.grad is not None for g in optimizer.param_groups for p in g["params"]):
                scaler.unscale_(optimizer)
                case.run.unscaled = True  # the probe that sees it sleeps while we act

    return Applied(
        treatments.AMP_ORDER, "gradients are unscaled before they are clipped",
        "remove --active; to keep it, call scaler.unscale_(optimizer) before the clip", {"kind": "unscale"},
        back=early(case), stop=before_clip(case.run, clipping),
    )  # fmt: skip


def unscaled_before_step(case: Case) -> Applied:
    """optimizer.step() is called around the scaler: its gradients still carry the scale."""
    scalers = case.run.scalers

    def unscale(optimizer: Optimizer) -> None:
        scaler = scalers.holding_scaled(optimizer)
        if scaler is not None and getattr(optimizer, "grad_scale", None) is None:
            loss_scale.divide(optimizer, float(scaler._scale))

    return Applied(
        treatments.AMP_ORDER, "gradients are divided by the loss scale before a direct optimizer.step()",
        "remove --active; to keep it, call scaler.step(optimizer); scaler.update()", {"kind": "scaler-step"},
        back=early(case), early=unscale, upstream="amp-misuse",  # the recording sees the call, not what it is given
    )  # fmt: skip


def scaled_backward(case: Case) -> Applied:
    """backward is called on the loss itself: it is given the scale that scaler.step will divide by."""
    scalers = case.run.scalers

    def offer(loss: Tensor) -> Any:
        live = [scaler for scaler in scalers.known if scaler.is_enabled() and scaler._scale is not None]
        if len(live) != 1 or loss.numel() != 1 or id(loss) in case.run.scaled_losses:
            return None
        scale = detach(live[0]._scale)

        def backward(gradient: Tensor | None = None, **kwargs: Any) -> None:
            given = torch.ones_like(detach(loss)) if gradient is None else gradient
            torch.Tensor.__dict__["backward"].original.__get__(loss)(given * scale.to(given.dtype), **kwargs)

        return backward

    return Applied(
        treatments.AMP_ORDER, "backward, which the script calls on the loss itself, is scaled as scaler.step expects",
        "remove --active; to keep it, call scaler.scale(loss).backward()", {"kind": "scaled-backward"},
        upstream="amp-misuse",  # the recording sees what the script calls, not what we make of it
        stop=patched_method(torch.Tensor, "backward", offer),
    )  # fmt: skip


def early(case: Case) -> Any:
    return "start" if case.run.recorder.step < 60 else "onset"
