"""[nan-root-cause]: exploding gradients of two models, tamed by a ladder of clips."""

from ...evidence import Evidence
from .. import treatments
from ..cause import Remedy
from ..wording import num
from . import code_lines
from .this_run import ladder_factor, max_norm, of_the_guides_order, rate, rounded, usual_norm

SOURCE = "nan-root-cause"
ADVISED = 5e-5  # its OneCycleLR's max_lr
DIV = 50  # from 1e-6 to 5e-5: OneCycleLR takes its first lr from max_lr / div_factor, not from the optimizer


def adaptive_clip(e: Evidence) -> Remedy:
    """A ladder for norms that are usually 0.7-0.8; multiplied for a run whose norms are usually larger."""
    f = ladder_factor(e)
    high, middle, to_high, to_middle, low = (rounded(f * value) for value in (10.0, 5.0, 5.0, 2.0, 1.0))
    peak, usual = (e.gradients.at_onset if e.gradients else None), usual_norm(e)
    seen = f"; this run reached {num(peak)}" if peak is not None else ""
    scaled = f" (the document's {10}, {5} times {num(f)}: the norm is usually {num(usual)} here)" if f != 1 else ""
    found = f"norm = torch.nn.utils.clip_grad_norm_({code_lines.parameters(e)}, float('inf')); "
    ladder = f"{to_high} if norm > {num(high)} else {to_middle} if norm > {num(middle)} else {low}"
    code = f"{found}torch.nn.utils.clip_grad_norm_({code_lines.parameters(e)}, {ladder})  # lr / 2 for the first"
    if e.style.scaler and not e.style.unscales:
        code = f"scaler.unscale_(optimizer); {code}"
    return Remedy(
        "Clip adaptively",
        f"norm > {num(high)}: clip {to_high} and halve lr for that step; > {num(middle)}: clip {to_middle}; "
        f"else clip {low}{scaled}{seen}",
        SOURCE,
        treatments.ADAPTIVE_CLIPPING,
        code,
        ("norm > 10", "adapt learning rate and clipping"),
    )


def check_gradients(e: Evidence) -> Remedy:
    return Remedy(
        "Check gradients before clipping",
        "a norm that is NaN or Inf: zero_grad and skip the batch",
        SOURCE,
        treatments.NONFINITE_GRADIENTS,
        code_lines.checked_step(e),
        ("checked before clipping",),
    )


def check_weights(e: Evidence) -> Remedy:
    return Remedy(
        "Check weights after each update",
        "every parameter finite, else stop before the next batch",
        SOURCE,
        treatments.NONFINITE_WEIGHTS,
        f"assert all(torch.isfinite(p).all() for p in {code_lines.parameters(e)})",
        ("after each update every parameter is checked", "protect weights"),
    )


def one_cycle(e: Evidence) -> Remedy:
    lr, optimizer = rate(e), e.optimizer
    total = e.style.total or "epochs * len(loader)"
    keeps = optimizer is not None and not optimizer.adaptive and lr is not None  # no rate of SGD is one of AdamW
    peak = rounded(lr / 10) if lr is not None and not of_the_guides_order(lr) and lr > ADVISED else ADVISED
    momentum = ", cycle_momentum=False" if keeps else ""
    rest = "pct_start=0.3, anneal_strategy='linear', final_div_factor=10000"
    who = f"on this run's {optimizer.name}" if keeps and optimizer else f"AdamW lr {num(peak / DIV)}, weight_decay 1e-3"
    made = f"OneCycleLR(optimizer, max_lr={num(peak)}, total_steps={total}, div_factor={DIV}, {rest}{momentum})"
    return Remedy(
        "A schedule that starts low",
        f"{who}, OneCycleLR(max_lr={num(peak)}, {rest})",
        SOURCE,
        treatments.WARM_UP,
        code_lines.schedule(e, f"torch.optim.lr_scheduler.{made}", "batch"),
        ("AdamW lr 1e-6, weight_decay 1e-3",),
    )


def watch_norm(e: Evidence) -> Remedy:
    return Remedy(
        "Watch gradient norm, weights and loss while it runs",
        "root of the summed squares of each parameter's gradient norm, at every step; `nandoctor plot grad-norm` "
        "draws this run's",
        SOURCE,
        None,
        f"{code_lines.clip(e, max_norm(e), keep=True)}; print(norm)"
        if not (e.style.lightning or e.style.hf_trainer or e.style.unscales)
        else f"{code_lines.gradient_norm(e)}; print(norm)",
        ("square root of the summed squares", "watch gradient norm, weights and loss in real time"),
    )


def check_inputs(e: Evidence) -> Remedy:
    return Remedy(
        "Check what goes in",
        "the input data, the simulated features and the masks: finite, and of the range that the model was made for",
        SOURCE,
        treatments.DATA,
        "assert x.isfinite().all(), (x.isnan().sum(), x.isinf().sum())",
        ("check the input data, the simulated features and the masks",),
    )
