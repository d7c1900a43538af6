"""[stability-guide]: a tutorial on training stability."""

from ...evidence import Evidence
from .. import treatments
from ..cause import Remedy
from ..wording import num, percent
from . import code_lines
from .this_run import WIDEST_NORM, accumulated, max_norm, rate, rounded, usual_norm

SOURCE = "stability-guide"
LEAST_WARM_UP = 10  # steps
LOW_START = 1e-5  # "start small, from 1e-5, and warm up to the target"


def plain_order(e: Evidence) -> Remedy:
    """Where zero_grad belongs."""
    k, collected = accumulated(e), e.accumulation
    change = "zero_grad -> forward -> backward -> clip (1.0) -> optimizer.step(), in every step"
    if k > 1:
        change = f"zero_grad once for each step: behind optimizer.step(), after every {k} backward calls"
    if collected is not None and collected.longest_stale:
        change += f"; {collected.longest_stale} steps in a row used gradients that a step had used before"
    elif collected is not None and collected.lost:
        change += f"; here {percent(round(collected.lost, 2))} of the steps found them cleared"
    return Remedy(
        "Clear the gradients once for every step",
        change,
        SOURCE,
        treatments.ACCUMULATION,
        "optimizer.step(); optimizer.zero_grad()",
        ("zero_grad -> forward -> backward -> clip (1.0) -> optimizer.step()",),
    )


def clip(e: Evidence) -> Remedy:
    limit = code_lines.decimal(max_norm(e))
    return Remedy(
        "Clip gradients",
        f"clip at norm {limit} (1.0 recommended); alone it left loss explosions in 2 of 10 runs instead of 8",
        SOURCE,
        treatments.ADAPTIVE_CLIPPING,
        code_lines.clip(e, max_norm(e)),
        ("clipping alone | 2 of 10",),
    )


def looser_clip(e: Evidence) -> Remedy:
    """The other end of the document's range."""
    usual = usual_norm(e)
    limit = max(WIDEST_NORM, 2 * max_norm(e))
    seen = f"; the norm is usually {num(usual)} here" if usual is not None else ""
    return Remedy(
        "Clip less if it slows the training down",
        f"max_norm 1.0-5.0 (1.0 recommended), up to {code_lines.decimal(limit)} here{seen}",
        SOURCE,
        treatments.ADAPTIVE_CLIPPING,
        code_lines.clip(e, limit),
        ("max_norm 1.0-5.0 (1.0 recommended)",),
    )


def warm_up(e: Evidence) -> Remedy:
    total, lr = e.style.total, rate(e)
    few, steps = (max(LEAST_WARM_UP, round(total / n)) if total else 0 for n in (20, 10))
    span = f"{few} to {steps} of {total}" if total and few < steps else f"{steps}" if total else ""
    if not total:
        per_epoch = e.style.epoch_steps
        span = f"an epoch has {per_epoch}" if per_epoch else f"this trace: {e.steps} steps, not all of the run"
    low = f", from 1e-05 up to {num(lr)}" if lr is not None and lr > LOW_START else ""
    had = f"; so far it rises over {e.style.warm_up}" if e.style.warm_up else ""
    ends = str(steps) if total else "(total_steps // 10)"
    made = f"LambdaLR(optimizer, lambda t: min(1.0, (t + 1) / {ends}))"
    return Remedy(
        "Warm the learning rate up",
        f"lr(t) = lr * min(1, t / warmup) over 5-10 % of all steps ({span}{had}){low}, then decay; with clipping "
        "0 of 10 runs exploded, of 8 without either",
        SOURCE,
        treatments.WARM_UP,
        f"TrainingArguments(..., warmup_steps={ends.strip('()')})"
        if e.style.hf_trainer
        else code_lines.schedule(e, made, "batch"),
        ("warm-up 5-10 % of all", "warmup_steps = 10 % of it", "start small, from 1e-5", "clipping + warm-up | 0"),
    )


def complete(e: Evidence) -> Remedy:
    """All of its practice at once: its best row."""
    half = ", GradScaler" if e.precision.float16 or e.precision.autocast == "float16" else ""
    return Remedy(
        "All measures together",
        f"clipping {code_lines.decimal(max_norm(e))}, warm-up, then decay{half}, NaN detection, checkpoints: 0 of 10 "
        "runs exploded, and the final loss was the best of all (1.9)",
        SOURCE,
        covers=("complete scheme | 0 of 10 | 1.9",),
    )


def amp_order(e: Evidence) -> Remedy:
    limit = code_lines.decimal(max_norm(e))
    return Remedy(
        "Keep the order of a mixed-precision step",
        "scaler.scale(loss).backward() -> scaler.unscale_(optimizer) -> clip 1.0 -> scaler.step(optimizer) -> "
        "scaler.update(), each once; backward outside autocast",
        SOURCE,
        treatments.AMP_ORDER,
        "scaler.scale(loss).backward(); scaler.unscale_(optimizer); "
        f"torch.nn.utils.clip_grad_norm_({code_lines.parameters(e)}, max_norm={limit}); "
        "scaler.step(optimizer); scaler.update()",
        ("scaler.unscale_(optimizer) -> clip 1.0 -> scaler.step(optimizer) -> scaler.update()",),
    )


def grad_scaler(e: Evidence) -> Remedy:
    code = f"{code_lines.grad_scaler(e)}  # scaler.scale(loss).backward(); scaler.step(optimizer); scaler.update()"
    if e.style.lightning:
        code = "Trainer(..., precision='16-mixed')  # brings a GradScaler"
    elif e.style.hf_trainer:
        code = "TrainingArguments(..., fp16=True)  # brings a GradScaler"
    elif e.style.accelerate:
        code = "accelerator = Accelerator(mixed_precision='fp16')  # with accelerator.backward(loss)"
    return Remedy(
        "fp16 only with a GradScaler",
        "no GradScaler -> torch.amp.GradScaler around backward and step: without it the document's fp16 runs ended in "
        "NaN, with it they reached the loss of fp32",
        SOURCE,
        treatments.AMP_ORDER,
        code,
        ("mixed precision only with GradScaler", "FP16 + GradScaler", "FP32 | 1x"),
    )


def lr_with_accumulation(e: Evidence) -> Remedy:
    """A step that sums k batches is as long as one at k times the rate, unless the loss is divided by k."""
    k, lr = accumulated(e), rate(e)
    divided = e.accumulation is not None and e.accumulation.divisor is not None
    change, code = "lr for the batch that one step really sees", "lr = lr * accumulation_steps  # of averaged losses"
    if k > 1 and lr is not None and not divided and e.optimizer and not e.optimizer.adaptive:
        new = rounded(lr / k)
        change = f"a step sums {k} batches: lr {num(lr)} -> {num(new)}, or divide the loss by {k}"
        code = code_lines.optimizer(e, new)
    elif k > 1:
        change = f"a step takes {k} batches: with the loss divided by {k} the lr is that of a batch {k} times as large"
        code = f"loss = loss / {k}"
    return Remedy(
        "Scale lr with gradient accumulation",
        change,
        SOURCE,
        treatments.LEARNING_RATE,
        code,
        ("scale the learning rate with gradient accumulation",),
    )
