"""Gradients are cut to a length: the run's own usual one, a strict one, or the ladder of nan-root-cause."""

import statistics
from functools import partial

import torch
from torch.optim import Optimizer

from ..causes import treatments
from ..recording.stats import detach
from .applied import Applied, Case, Gradients
from .ledger import Ledger
from .rehearsal import SURE, Rehearsal, behind, ends_of, sound

ROOM = 1.5  # times the usual norm: ordinary steps pass untouched
STRICT = 1.0  # of every document; nan-guide's stricter 0.5 where the run clips at 1 already
STRICTER = 0.5
SMOOTH, BEYOND, WARM = 0.98, 1.05, 20  # AdaGC: weight of the past, room above it; steps that learn what is usual
HIGH, MIDDLE = 10.0, 5.0  # nan-root-cause's ladder of norms ...
CLIP_HIGH, CLIP_MIDDLE, CLIP_LOW = 5.0, 2.0, 1.0  # ... and what it clips to


def clip(gradients: Gradients, limit: float) -> None:
    """In place, as torch.nn.utils.clip_grad_norm_ does."""
    if gradients.total > limit and gradients.finite:
        share = limit / (gradients.total + 1e-6)
        torch._foreach_mul_([detach(g) for g in gradients.tensors() if g.layout is torch.strided], share)


class Clip:
    """A limit on the norm of all gradients together; or, chosen by rehearsal, one for each tensor (AdaGC)."""

    def __init__(self, case: Case, limit: float) -> None:
        self.case, self.limit = case, limit
        self.each: dict[int, float] = {}  # the usual norm of each tensor, as it was used
        self.steps, self.per_tensor = 0, False

    def __call__(self, found: Gradients) -> None:
        if not found.finite:
            return
        if self.per_tensor and self.steps >= WARM:
            self._each(found)
            used = 1.0
        else:
            used = min(1.0, self.limit / (found.total + 1e-6))
            clip(found, self.limit)
        self.steps += 1
        for parameter, norm in zip(found.parameters, found.norms, strict=True):
            seen = norm * used
            self.each[id(parameter)] = SMOOTH * self.each.get(id(parameter), seen) + (1 - SMOOTH) * seen

    def _each(self, found: Gradients) -> None:
        for place, (parameter, norm) in enumerate(zip(found.parameters, found.norms, strict=True)):
            limit = BEYOND * self.each.get(id(parameter), norm)
            if norm > limit > 0 and parameter.grad is not None and parameter.grad.layout is torch.strided:
                detach(parameter.grad).mul_(limit / norm)
                found.norms[place] = limit

    def settle(self, rehearsal: Rehearsal) -> None:
        """Of those that are not surely worse than the best, the first: a later explosion is not in the copies.

        The usual norm of the run holds it as well as a tighter one, and lets ordinary steps be as long as they were.
        """
        ways: list[tuple[float, bool]] = [(self.limit, False), (self.limit, True)]
        if self.limit > STRICT:
            ways.append((STRICT, False))
        heard: dict[float, list[float]] = {}  # by place
        for place, way in enumerate(ways):
            losses = rehearsal.losses(partial(self.take, way))
            if losses is None:
                return  # in a copy, or nothing can be rehearsed
            if sound(losses):
                heard[place] = losses
        ends = ends_of(heard)
        if not ends:
            return
        best = min(ends, key=lambda place: statistics.fmean(ends[place]))
        chosen = int(min(place for place in ends if place == best or behind(ends[place], ends[best]) <= SURE))
        self.take(ways[chosen])
        limit, per_tensor = ways[chosen]
        Ledger(self.case.run.recorder).write(
            "once", treatments.ADAPTIVE_CLIPPING, self.case.cause, f"{len(ways)} ways of clipping were rehearsed: "
            + ("each tensor to its own usual norm" if per_tensor else f"to a norm of {limit:g}"),
            f"no other was surely better in forked copies of {len(heard[chosen])} steps",
        )  # fmt: skip

    def take(self, way: tuple[float, bool]) -> None:
        self.limit, self.per_tensor = way


def cutting(case: Case, limit: float) -> Applied:
    clipped = Clip(case, limit)
    return Applied(
        treatments.ADAPTIVE_CLIPPING, f"gradients are clipped to a norm of {limit:g}",
        "remove --active; to keep it, clip before optimizer.step()", {"kind": "clip", "max_norm": limit},
        back="onset", gradients=clipped, settle=clipped.settle,
        beneath="exploding-gradients",  # the recording sees the norms before we clip them
    )  # fmt: skip


def usual(case: Case) -> Applied | None:
    """The usual norm of this run, before it left its path; where all of it was loud, 1."""
    seen = case.evidence.gradients
    known = [n for n in (seen.pre_median if seen else None, case.vitals.norm.middle()) if n is not None]
    limit = ROOM * min(known) if known else STRICT
    optimizer = case.evidence.optimizer
    if not 0 < limit <= HIGH or optimizer is not None and optimizer.adaptive:  # whose step knows no length of gradients
        limit = min(limit, STRICT) if limit > 0 else STRICT
    return cutting(case, float(f"{limit:.2g}"))


def strict(case: Case) -> Applied | None:
    return cutting(case, STRICTER if case.evidence.style.clips else STRICT)


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
