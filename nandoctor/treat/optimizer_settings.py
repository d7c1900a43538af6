"""Hyperparameters of an optimizer that no update survives: eps, betas, alpha, momentum go back to usual values."""

from typing import Any

import torch
from torch.optim import Optimizer

from ..causes import treatments
from .applied import Applied, Back, Case
from .learning_rate import LEARNED, WHILE

EPS, EPS_HALF = 1e-8, 1e-4  # float32; 1e-4 is what half can hold and divide by (D.8)
TINY = 1e-12  # below what torch, its papers and guides ever use
LARGEST = 1e-2  # an eps above the gradients turns Adam into a slow SGD
BETAS, MOMENTUM, ALPHA = (0.9, 0.999), 0.9, 0.99
FORGETFUL = 0.5  # a second moment that remembers less is the last gradient alone


def usual(case: Case) -> Applied | None:
    changes: list[str] = []
    undo: list[tuple[dict[str, Any], str, Any]] = []
    patch: dict[str, Any] = {}
    for optimizer in case.optimizers:
        for group in optimizer.param_groups:
            for key, value in better(group).items():
                undo.append((group, key, group[key]))
                changes.append(f"{key} {group[key]} -> {value}")
                patch[key] = value
                group[key] = value
    if not changes:
        return None

    def stop() -> None:
        for group, key, value in undo:
            group[key] = value

    return Applied(
        treatments.OPTIMIZER, "; ".join(dict.fromkeys(changes)), "remove --active; to keep it, change the constructor",
        {"kind": "optimizer", "arguments": patch}, back=back_to(case), stop=stop,
        upstream="optimizer-epsilon",  # the recording goes on telling what the constructor was given
    )  # fmt: skip


def back_to(case: Case) -> Back:
    """Such settings were wrong from the first step on: no later weights are worth keeping, unless it had learned."""
    loss = case.evidence.loss
    learned = loss is not None and loss.pre_median is not None and loss.pre_median < LEARNED * loss.first
    return "onset" if learned and case.run.recorder.step >= WHILE else "start"


def better(group: dict[str, Any]) -> dict[str, Any]:
    """What of a group's settings is pathological, with the usual value."""
    found: dict[str, Any] = {}
    eps = group.get("eps")
    half = any(p.dtype in (torch.float16, torch.bfloat16) for p in group["params"])
    if isinstance(eps, float) or eps == 0:
        least = EPS_HALF if half else TINY
        if eps < least or eps > LARGEST:
            found["eps"] = EPS_HALF if half else EPS
    betas = group.get("betas")
    if isinstance(betas, tuple) and len(betas) == 2:
        beta1, beta2 = betas
        if beta2 < FORGETFUL or beta1 >= 0.99 or beta1 * beta1 > beta2:
            found["betas"] = BETAS
    momentum = group.get("momentum")
    if isinstance(momentum, (int, float)) and momentum >= 0.999:
        found["momentum"] = MOMENTUM
    alpha = group.get("alpha")
    if isinstance(alpha, (int, float)) and alpha < FORGETFUL and "centered" in group:
        found["alpha"] = ALPHA
    return found


def unusual(optimizer: Optimizer) -> bool:
    return any(better(group) for group in optimizer.param_groups)
