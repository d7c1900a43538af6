"""A step that is recorded whole, where nothing is out of the ordinary: all gradients, weights and updates of an
optimizer are read and packed by a few calls of the compiled kernel. What it cannot do, weights.py does one by one.
"""

import math
from typing import Any

import torch
from torch import Tensor

from ...trace.schema import CLIPPED, NORM_ONLY, SCALED
from ..run import Run
from ..samples import Samples
from ..stats import kernel
from .plan import Plan


def flags_of(run: Run) -> int:
    """Of gradients whose norms alone are read."""
    scaled = run.scale is not None and not run.unscaled
    return NORM_ONLY | (CLIPPED if run.clipped else 0) | (SCALED if scaled else 0)


def gradients(run: Run, plan: Plan, parameters: list[Tensor]) -> tuple[float, Samples] | None:
    """Rows of all gradients and of their total, which is returned with samples of them. None: nothing was written."""
    if kernel is None or not plan.fits(parameters):
        return None
    step, room = run.recorder.step, torch.empty(sum(plan.lengths))
    read = kernel.read_rows(
        plan.gradients, step, flags_of(run), parameters, Tensor, torch.float32, True, room.data_ptr(), plan.samples
    )
    if read is None or not math.isfinite(read[1]):
        return None
    run.recorder.packed(read[0])
    return read[1], Samples(plan.keys, plan.lengths, room, plan.samples)


def weights(plan: Plan, parameters: list[Tensor]) -> Samples | None:
    """Samples of all weights that have a gradient."""
    if kernel is None or not plan.fits(parameters):
        return None
    room = torch.empty(sum(plan.lengths))
    read = kernel.read_rows(
        b"", 0, 0, parameters, plan.kind, torch.float32, False, room.data_ptr(), plan.samples
    )  # fmt: skip
    return None if read is None else Samples(plan.keys, plan.lengths, room, plan.samples)


def updates(
    run: Run, plan: Plan, parameters: list[Tensor], before: Samples, look: bool
) -> tuple[Samples, Tensor] | None:
    """Rows of all weights and of their updates; samples of the weights, and by how much they moved."""
    if kernel is None or not plan.fits(parameters) or before.plan != plan.samples:
        return None
    step, room, moved = run.recorder.step, torch.empty_like(before.vector), torch.empty_like(before.vector)
    read = kernel.read_rows(
        plan.weights, step, NORM_ONLY, parameters, plan.kind, torch.float32, False, room.data_ptr(), plan.samples
    )
    if read is None or not math.isfinite(read[1]):
        return None
    places = before.vector.data_ptr(), room.data_ptr(), moved.data_ptr()
    changed = kernel.change_rows(plan.updates, step, 0 if look else NORM_ONLY, look, *places, plan.samples)
    if changed is None:
        return None
    run.recorder.packed(read[0] + changed)
    return Samples(plan.keys, plan.lengths, room, plan.samples), moved


def parameters_of(optimizer: Any) -> list[Tensor]:
    """In the order of the groups."""
    groups = optimizer.param_groups
    return groups[0]["params"] if len(groups) == 1 else [p for group in groups for p in group["params"]]
