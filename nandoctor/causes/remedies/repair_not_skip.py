"""[repair-not-skip]: every batch is processed; gradients and weights are repaired at once."""

from ...evidence import Evidence
from .. import treatments
from ..cause import Remedy

SOURCE = "repair-not-skip"


def repair_gradients(e: Evidence) -> Remedy:
    return Remedy(
        "Repair gradients instead of skipping",
        "NaN/Inf entries of a gradient become 0, finite ones stay (nan-guide, nan-root-cause skip the batch)",
        SOURCE,
        treatments.NONFINITE_GRADIENTS,
        "for p in model.parameters(): p.grad is None or p.grad.nan_to_num_(0.0, 0.0, 0.0)",
    )


def repair_weights(e: Evidence) -> Remedy:
    return Remedy(
        "Repair weights",
        "NaN/Inf entries of a weight become normal(0, 1) * 0.01 (nan-guide starts over instead)",
        SOURCE,
        treatments.NONFINITE_WEIGHTS,
        "p.data = torch.where(torch.isfinite(p), p, torch.randn_like(p) * 0.01)",
    )


def repair_outputs(e: Evidence) -> Remedy:
    return Remedy(
        "Handle NaN in the model's output",
        "inside the model, so that the batch is not skipped",
        SOURCE,
        None,
        "out = torch.nan_to_num(out)",
    )


def unscale_once(e: Evidence) -> Remedy:
    return Remedy(
        "Call unscale_ once between two updates",
        "one scaler.unscale_(optimizer) per optimizer, before gradients are read or clipped; "
        "scaler.update() on every way through the loop",
        SOURCE,
        treatments.AMP_ORDER,
        "scaler.unscale_(optimizer)  # once, after all backward calls of the step",
    )
