"""A loss scale that fits: supplied where half precision runs without a GradScaler, held where one has lost it."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from ..causes import treatments
from ..recording.stats import detach
from .applied import Applied, Case, Gradients
from .hooks import before_clip, shielded
from .patched import patched_method
from .scalers import Scaler

START = 2.0**16  # torch's own
LEAST, MOST = 2.0**-4, 2.0**24
FAINT, FAINTEST = 2.0**-4, 2.0**40  # a scaled norm below it lies in the crumbs of half precision; the scale that may be
STRIDE = 2.0**4  # of a scale on its way to it, at each step: it has overflowed long before it is too far
GROWS_AFTER = 200  # good steps, then it is doubled


def supplied(case: Case) -> Applied | None:
    if not (case.evidence.precision.float16 or case.evidence.precision.scaler):
        return None
    if case.run.scalers is not None and case.run.scalers.used:
        return bounded(case)
    return own(case)


def bounded(case: Case) -> Applied:
    """The program's scaler gets our scale at each scale(): halved after each step that it left out."""
    first = case.evidence.precision.scale_last
    overflows = case.evidence.precision.skipped > 0
    held = {"scale": min(START, max(LEAST, (first or START) / 2)) if overflows else START, "good": 0.0, "micro": 1.0}
    run = case.run
    seen = {"stepped": -1}
    steps = {"done": 0}

    def offer(scaler: Any) -> Any:
        if not scaler.is_enabled():
            return None
        if run.recorder.step != seen["stepped"]:  # the first scale() since the last step
            if seen["stepped"] >= 0:
                taken = steps["done"] > 0
                held["good"] = held["good"] + 1 if taken else 0
                if not taken:
                    held["scale"] = max(LEAST, held["scale"] / 2)
                elif held["good"] >= GROWS_AFTER:
                    held["scale"], held["good"] = min(MOST, held["scale"] * 2), 0
            seen["stepped"], steps["done"] = run.recorder.step, 0
        if scaler._scale is None:
            scaler._lazy_init_scale_growth_tracker(torch.device(scaler._device))
        scaler._scale.fill_(held["scale"])
        return None

    def stepped(_: Gradients) -> None:
        steps["done"] += 1

    return Applied(
        treatments.AMP_ORDER, f"the loss scale is held by me: {held['scale']:g} now, halved after each step left out",
        "remove --active; to keep it, torch.amp.GradScaler with its defaults, and scaler.update() without an argument",
        {"kind": "scaler-defaults"}, gradients=stepped, stop=patched_method(Scaler, "scale", shielded(run, offer)),
    )  # fmt: skip


def own(case: Case) -> Applied | None:
    """backward gets a scale, the step's gradients are divided by it; a step whose gradients overflowed is left out."""
    norm = case.latest.total if case.latest is not None and case.latest.finite else None
    start = START if norm is None else MOST if norm == 0 else min(MOST, max(START, 2.0 ** -math.floor(math.log2(norm))))
    held = {"scale": start, "good": 0.0, "pending": 0.0, "bound": FAINTEST}
    run = case.run

    def offer(loss: Tensor) -> Any:
        if loss.numel() != 1 or not loss.requires_grad:
            return None

        def backward(gradient: Tensor | None = None, **kwargs: Any) -> None:
            given = torch.ones_like(detach(loss)) if gradient is None else gradient
            scale = held["scale"]
            if loss.dtype is torch.float16:
                scale = held["scale"] = min(scale, 2.0**14)  # the gradient of the loss itself is in half
            held["pending"] = scale
            torch.Tensor.__dict__["backward"].original.__get__(loss)(given * scale, **kwargs)

        return backward

    def unscale(optimizer: Optimizer) -> None:
        if held["pending"]:
            for each in case.optimizers:
                divide(each, held["pending"])
            held["pending"] = 0.0

    def gradients(found: Gradients) -> bool:
        finite_loss = found.loss is None or abs(found.loss) < float("inf")
        if found.finite and 0 <= found.total * held["scale"] < FAINT and held["scale"] * STRIDE < held["bound"]:
            held["scale"], held["good"] = held["scale"] * STRIDE, 0
        elif found.finite:
            held["good"] += 1
            if held["good"] >= GROWS_AFTER:
                held["scale"], held["good"] = min(max(MOST, held["scale"]), held["scale"] * 2), 0
        elif finite_loss:
            held["bound"] = held["scale"]
            held["scale"], held["good"] = max(1.0, held["scale"] / 2), 0
            return True
        return False

    stops = [
        patched_method(torch.Tensor, "backward", shielded(run, offer)),
        before_clip(run, lambda: unscale(case.optimizers[0])),
    ]

    def stop() -> None:
        for each in stops:
            each()

    return Applied(
        treatments.AMP_ORDER, f"the loss is scaled by {start:g}, and gradients are unscaled before the step",
        "remove --active; to keep it, use torch.amp.GradScaler", {"kind": "grad-scaler"},
        back="start" if run.recorder.step < 60 else "", early=unscale, gradients=gradients, stop=stop,
    )  # fmt: skip


def divide(optimizer: Optimizer, scale: float) -> None:
    found = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    if found and scale > 0:
        torch._foreach_div_([detach(g) for g in found if g.layout is torch.strided], scale)
