"""Gradients are cut to a length: the run's own usual one, a strict one, or the ladder of nan-root-cause."""

import torch
from torch.optim import Optimizer

from ..causes import treatments
from ..recording.stats import detach
from .applied import Applied, Case, Gradients

ROOM = 1.5  # times the usual norm: ordinary steps pass untouched
STRICT = 1.0  # of every document; nan-guide's stricter 0.5 where the run clips at 1 already
STRICTER = 0.5
HIGH, MIDDLE = 10.0, 5.0  # nan-root-cause's ladder of norms ...
CLIP_HIGH, CLIP_MIDDLE, CLIP_LOW = 5.0, 2.0, 1.0  # ... and what it clips to


def clip(gradients: Gradients, limit: float) -> None:
    """In place, as torch.nn.utils.clip_grad_norm_ does."""
    if gradients.total > limit and gradients.finite:
        share = limit / (gradients.total + 1e-6)
        torch._foreach_mul_([detach(g) for g in gradients.tensors() if g.layout is torch.strided], share)


def cutting(name: str, limit: float, what: str, back: bool) -> Applied:
    def gradients(found: Gradients) -> None:
        clip(found, limit)

    return Applied(
        name, what, "remove --active; to keep it, clip before optimizer.step()", {"kind": "clip", "max_norm": limit},
        back="onset" if back else "", gradients=gradients,
    )  # fmt: skip


def usual(case: Case) -> Applied | None:
    """The usual norm of this run, before it left its path; where all of it was loud, 1."""
    seen = case.evidence.gradients
    known = [n for n in (seen.pre_median if seen else None, case.vitals.norm.middle()) if n is not None]
    limit = ROOM * min(known) if known else STRICT
    if not 0 < limit <= HIGH:
        limit = STRICT
    limit = float(f"{limit:.2g}")
    return cutting(treatments.ADAPTIVE_CLIPPING, limit, f"gradients are clipped to a norm of {limit:g}", True)


def strict(case: Case) -> Applied | None:
    clipped = case.evidence.style.clips
    limit = STRICTER if clipped else STRICT
    return cutting(treatments.ADAPTIVE_CLIPPING, limit, f"gradients are clipped to a norm of {limit:g}", True)


def ladder(case: Case) -> Applied | None:
    """nan-root-cause: above 10 clip to 5 and halve the rate of this step; above 5 clip to 2; else to 1."""
    loud = False

    def gradients(found: Gradients) -> None:
        nonlocal loud
        loud = found.total > HIGH
        clip(found, CLIP_HIGH if loud else CLIP_MIDDLE if found.total > MIDDLE else CLIP_LOW)

    def factor(_: Optimizer) -> float:
        return 0.5 if loud else 1.0

    return Applied(
        treatments.ADAPTIVE_CLIPPING, "gradients are clipped by the ladder 5 / 2 / 1; above 10 the rate is halved",
        "remove --active; to keep it, clip before optimizer.step()", {"kind": "clip", "max_norm": CLIP_LOW},
        gradients=gradients, factor=factor,
    )  # fmt: skip
