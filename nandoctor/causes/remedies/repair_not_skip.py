"""[repair-not-skip]: every batch is processed; gradients and weights are repaired at once."""

from ...evidence import Evidence
from .. import treatments
from ..cause import Remedy
from . import code_lines

SOURCE = "repair-not-skip"


def repair_gradients(e: Evidence) -> Remedy:
    """The documents disagree: three skip the batch. That is followed."""
    return Remedy(
        "Repair gradients instead of skipping",
        "NaN/Inf entries of a gradient become 0, finite ones stay (nan-guide, nan-root-cause and monash-stability skip "
        "the batch, which is followed: what is left of such a gradient is no direction to trust)",
        SOURCE,
        treatments.NONFINITE_GRADIENTS,
        f"for p in {code_lines.parameters(e)}: p.grad is None or p.grad.nan_to_num_(0.0, 0.0, 0.0)",
        ("those entries become 0, finite ones stay",),
    )


def repair_weights(e: Evidence) -> Remedy:
    return Remedy(
        "Repair weights",
        "NaN/Inf entries of a weight become normal(0, 1) * 0.01 (nan-guide starts over, which is followed: a state "
        "that is finite again has not learned anything)",
        SOURCE,
        treatments.NONFINITE_WEIGHTS,
        f"for p in {code_lines.parameters(e)}: "
        "p.data = torch.where(torch.isfinite(p.data), p.data, torch.randn_like(p.data) * 0.01)",
        ("normal(0, 1) * 0.01",),
    )


def repair_outputs(e: Evidence) -> Remedy:
    return Remedy(
        "Handle NaN in the model's output",
        "inside the model, so that the batch is not skipped: in what goes into the operation, not in its result, since "
        "backward makes 0 * Inf = NaN of that",
        SOURCE,
        None,
        "x = torch.nan_to_num(x, nan=0.0, posinf=0.0, neginf=0.0)  # before the layer that cannot take it",
        ("handled inside the model; the batch is not skipped",),
    )


def unscale_once(e: Evidence) -> Remedy:
    return Remedy(
        "Call unscale_ once between two updates",
        "one scaler.unscale_(optimizer) per optimizer, before gradients are read or clipped; "
        "scaler.update() on every way through the loop",
        SOURCE,
        treatments.AMP_ORDER,
        "scaler.unscale_(optimizer)  # once, after all backward calls of the step",
        ("call it once per optimizer between two updates",),
    )
