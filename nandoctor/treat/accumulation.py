"""Gradients are collected as they were meant to be: cleared after a step, kept until one, divided by their number."""

from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from ..causes import treatments
from ..recording.stats import detach
from .applied import Applied, Case, Gradients
from .patched import patched_method

OFTEN = 0.3  # as in causes/gradient_accumulation_bug.py


def cleared(case: Case) -> Applied | None:
    found = case.evidence.accumulation
    if found is None:
        return None
    if found.stale >= OFTEN:
        return never_cleared(case)
    if found.lost >= OFTEN:
        return cleared_too_early(case)
    return undivided(case)


def never_cleared(case: Case) -> Applied:
    def after(optimizer: Optimizer) -> None:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    return Applied(
        treatments.ACCUMULATION, "gradients are cleared after each step that has used them",
        "remove --active; to keep it, call optimizer.zero_grad() before backward", {"kind": "zero-grad"},
        back="start" if case.run.recorder.step < 100 else "onset", after=after,
    )  # fmt: skip


def cleared_too_early(case: Case) -> Applied:
    """zero_grad between backward and step: it is left out, and done after the step."""
    run = case.run

    def offer(_: Any) -> Any:
        waiting = run.recorder.micro > 0  # a backward has run and no step has used it
        return nothing_cleared if waiting else None

    def nothing_cleared(set_to_none: bool = True) -> None:
        return None

    def after(optimizer: Optimizer) -> None:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    stops = [patched_method(torch.optim.Optimizer, "zero_grad", offer), patched_method(nn.Module, "zero_grad", offer)]

    def stop() -> None:
        for each in stops:
            each()

    return Applied(
        treatments.ACCUMULATION, "zero_grad between backward and step is put off until after the step",
        "remove --active; to keep it, move optimizer.zero_grad() before backward", {"kind": "zero-grad-moved"},
        after=after, stop=stop,
    )  # fmt: skip


def undivided(case: Case) -> Applied | None:
    """The sum over several backward calls becomes their mean."""
    found = case.evidence.accumulation
    if found is None or found.backwards is None or found.backwards < 2:
        return None
    share = found.divisor or 1.0
    run = case.run

    def gradients(collected: Gradients) -> None:
        count = run.recorder.micro / share
        if count > 1:
            torch._foreach_div_([detach(g) for g in collected.tensors() if g.layout is torch.strided], count)
            collected.total /= count
            collected.norms = [norm / count for norm in collected.norms]

    return Applied(
        treatments.ACCUMULATION, f"gradients of about {found.backwards:.0f} backward calls are divided by their number",
        "remove --active; to keep it, divide the loss", {"kind": "divide", "by": found.backwards / share},
        back="start" if run.recorder.step < 100 else "onset", gradients=gradients,
    )  # fmt: skip
