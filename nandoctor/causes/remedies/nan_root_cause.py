"""[nan-root-cause]: exploding gradients of two models, tamed by a ladder of clips."""

from ...evidence import Evidence
from .. import treatments
from ..cause import Remedy
from ..wording import num

SOURCE = "nan-root-cause"
ADVISED = 5e-5  # its OneCycleLR's max_lr


def adaptive_clip(e: Evidence) -> Remedy:
    peak = e.gradients.at_onset if e.gradients else None
    seen = f"; this run reached {num(peak)}" if peak is not None else ""
    return Remedy(
        "Clip adaptively",
        f"norm > 10: clip 5.0 and halve lr; > 5: clip 2.0; else clip 1.0{seen}",
        SOURCE,
        treatments.ADAPTIVE_CLIPPING,
        "clip_grad_norm_(model.parameters(), 5.0 if norm > 10 else 2.0 if norm > 5 else 1.0)",
    )


def check_gradients(e: Evidence) -> Remedy:
    return Remedy(
        "Check gradients before clipping",
        "a norm that is NaN or Inf: zero_grad and skip the batch",
        SOURCE,
        treatments.NONFINITE_GRADIENTS,
        "if not torch.isfinite(norm): optimizer.zero_grad(); continue",
    )


def check_weights(e: Evidence) -> Remedy:
    return Remedy(
        "Check weights after each update",
        "every parameter finite, else stop before the next batch",
        SOURCE,
        treatments.NONFINITE_WEIGHTS,
        "assert all(torch.isfinite(p).all() for p in model.parameters())",
    )


def one_cycle(e: Evidence) -> Remedy:
    lr = e.optimizer.lr if e.optimizer else None
    peak = ADVISED if lr is None or lr <= 2e-3 else lr / 10
    return Remedy(
        "A schedule that starts low",
        f"AdamW lr {num(peak / 50)}, weight_decay 1e-3, OneCycleLR(max_lr={num(peak)}, pct_start=0.3, "
        "anneal_strategy='linear', final_div_factor=10000)",
        SOURCE,
        treatments.WARM_UP,
        f"OneCycleLR(optimizer, max_lr={num(peak)}, total_steps=total_steps, pct_start=0.3, "
        "anneal_strategy='linear', final_div_factor=10000)",
    )


def watch_norm(e: Evidence) -> Remedy:
    return Remedy(
        "Watch gradient norm, weights and loss while it runs",
        "root of the summed squares of each parameter's gradient norm, at every step",
        SOURCE,
        None,
        "norm = torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0); print(norm)",
    )
