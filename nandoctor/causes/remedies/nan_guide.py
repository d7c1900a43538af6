"""[nan-guide]: the guide to solving NaN."""

from ...evidence import Evidence
from .. import treatments
from ..cause import Remedy
from ..wording import num

SOURCE = "nan-guide"
OF_THAT_ORDER = 2e-3  # the guide's rates stand for runs near 1e-4; a run at 0.5 gets a factor instead
FAST_EPOCHS = 3  # "NaN quickly (epochs 1-3)"
# update ratio before onset -> divisor, towards 1 to 3 %; in the study /10 cured 23 of 23
BY_RATIO = ((30.0, 1000.0), (3.0, 100.0), (0.3, 30.0), (0.0, 10.0))
SCALED_UP = 8  # values of batch size that the guide names: 8, then 16


def lower_lr(e: Evidence) -> Remedy:
    """The guide's table where the run's lr is of that order, else a factor by the size of the updates."""
    lr = e.optimizer.lr if e.optimizer else None
    if lr is None or not lr > 0 or lr == float("inf"):
        change = "lr: a tenth of what it is; 1e-05 for an AdamW run that fails in its first epochs"
        return _lr(change, "lr = lr / 10")
    new, why = _target(e, lr)
    if e.optimizer and e.optimizer.hot_group:
        change = f"lr of group {e.optimizer.hot_group}: {num(lr)} -> {num(new)} ({why})"
        return _lr(change, f"{{'params': ..., 'lr': {num(new)}}}")
    name = e.optimizer.name if e.optimizer else "Optimizer"
    if e.style.schedule and e.optimizer and e.optimizer.lr_peak and e.optimizer.lr_peak > lr:
        why += f"; the schedule's peak {num(e.optimizer.lr_peak)} by the same factor"
    return _lr(f"lr {num(lr)} -> {num(new)} ({why})", f"optimizer = {name}(model.parameters(), lr={num(new)})")


def _lr(change: str, code: str) -> Remedy:
    return Remedy("Lower the learning rate", change, SOURCE, treatments.LEARNING_RATE, code)


def _target(e: Evidence, lr: float) -> tuple[float, str]:
    ratio = e.optimizer.hottest_ratio or e.optimizer.update_ratio_first or 0.0 if e.optimizer else 0.0
    epoch = e.bad.epoch if e.bad and e.bad.epoch is not None else 0
    if 5e-5 < lr <= OF_THAT_ORDER:
        if epoch < FAST_EPOCHS:
            return min(1e-5, lr / 10), "NaN within epochs 1-3: 1e-5 or 5e-6"
        return min(5e-5, lr / 2), "NaN in mid-training: 5e-5"
    if lr <= 5e-5:
        return lr / 10, "one step further down the guide's table"
    divisor = next(by for least, by in BY_RATIO if ratio >= least)
    return float(f"{lr / divisor:.2g}"), f"a factor {num(divisor)}; the guide's own rates are for runs near 1e-4"


def clip_one(e: Evidence) -> Remedy:
    return _clip(e, 1.0, "Clip gradients")


def clip_half(e: Evidence) -> Remedy:
    return _clip(e, 0.5, "Clip harder if NaN persists")


def _clip(e: Evidence, max_norm: float, title: str) -> Remedy:
    was = e.gradients.max_norm if e.gradients else None
    change = f"max_norm {num(was)} -> {max_norm}" if was else f"clip at norm {max_norm} (now: no clipping)"
    return Remedy(title, change, SOURCE, treatments.ADAPTIVE_CLIPPING, clip_code(e, max_norm))


def clip_code(e: Evidence, max_norm: float) -> str:
    """One line in the style of the run: Accelerate's own clip, unscale_ first under a GradScaler."""
    if e.style.accelerate:
        return f"accelerator.clip_grad_norm_(model.parameters(), {max_norm})"
    line = f"torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm={max_norm})"
    return f"scaler.unscale_(optimizer); {line}" if e.style.scaler else line


def warm_up_cosine(e: Evidence) -> Remedy:
    return Remedy(
        "Warm up for 5 epochs, then cosine",
        "LinearLR(start_factor 0.1, total_iters 5), then CosineAnnealingLR(T_max epochs - 5), milestones [5]",
        SOURCE,
        treatments.WARM_UP,
        "SequentialLR(optimizer, [LinearLR(optimizer, 0.1, total_iters=5), "
        "CosineAnnealingLR(optimizer, epochs - 5)], [5])",
    )


def adamw(e: Evidence) -> Remedy:
    was = e.optimizer.name if e.optimizer else "Adam"
    return Remedy(
        "A more conservative optimizer",
        f"{was} -> AdamW, weight_decay 1e-4, eps 1e-8",
        SOURCE,
        treatments.OPTIMIZER,
        "torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=1e-4, eps=1e-8)",
    )


def larger_batch(e: Evidence) -> Remedy:
    """The documents disagree: nan-guide says larger, monash-stability smaller. Larger is followed."""
    return Remedy(
        "A larger batch, if memory allows",
        "batch size 8, then 16 per GPU. monash-stability says smaller (16 or 8); larger is followed here, "
        "since it makes the gradient less noisy",
        SOURCE,
    )


def clamp_attention(e: Evidence) -> Remedy:
    return Remedy(
        "Keep attention scores in range",
        "scores clamped to [-10, 10] before softmax",
        SOURCE,
        treatments.ATTENTION_LOGITS,
        "scores = scores.clamp(-10, 10)  # then masked_fill, then softmax",
    )


def skip_bad_loss(e: Evidence) -> Remedy:
    return Remedy(
        "Guard against a NaN loss",
        "test the loss before backward and clip; every process skips the batch. repair-not-skip disagrees: "
        "it repairs instead; skipping is the safer stop-gap, neither removes the cause",
        SOURCE,
        treatments.NONFINITE_GRADIENTS,
        "if not torch.isfinite(loss): optimizer.zero_grad(); continue",
    )


def float32(e: Evidence) -> Remedy:
    return Remedy(
        "Mixed precision off, until training is stable",
        "fp16 -> fp32",
        SOURCE,
        None,
        "Accelerator(mixed_precision='no')"
        if e.style.accelerate
        else "with torch.autocast(device_type, enabled=False):",
    )


def scan_data(e: Evidence) -> Remedy:
    return Remedy(
        "Scan the data before training",
        "every tensor of every batch for NaN/Inf",
        SOURCE,
        treatments.DATA,
        "for batch in loader: assert all(torch.isfinite(t).all() for t in batch if t.is_floating_point())",
    )


def label_smoothing(e: Evidence) -> Remedy:
    return Remedy(
        "Soften the targets",
        "CrossEntropyLoss(label_smoothing=0.1)",
        SOURCE,
        None,
        "torch.nn.CrossEntropyLoss(label_smoothing=0.1)",
    )


def start_over(e: Evidence) -> Remedy:
    return Remedy(
        "Start over from a clean state",
        "weights that are NaN do not recover: restart, or load the last checkpoint before the failure "
        "(repair-not-skip would fill them with normal * 0.01; started over is followed here)",
        SOURCE,
        treatments.ROLLBACK,
    )
