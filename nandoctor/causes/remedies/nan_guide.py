"""[nan-guide]: the guide to solving NaN. Its table of learning rates is in nan_guide_rates.py."""

from ...evidence import Evidence
from .. import treatments
from ..cause import Remedy
from ..wording import num
from . import code_lines
from .nan_guide_rates import SOURCE, higher_lr, lower_lr, try_higher
from .this_run import max_norm, rate, rounded, setting, usual_norm

__all__ = ["SOURCE", "higher_lr", "lower_lr", "try_higher"]

CLIPPING = ("accelerator.clip_grad_norm_ under Accelerate", "clipping on", "Mild clipping (1.0) usually does not harm")
STABLE_LR, ADAM_LR = 5e-5, 1e-4  # of its stable configuration, and of the run that it heals
WARM_EPOCHS, ITS_EPOCHS = 5, 50  # its warm-up, and its run: a tenth
FIRST_BATCH, NEXT_BATCH = 8, 16  # "larger: 8, then 16 per GPU"
BY_HAND_BATCH = 4


def clip_one(e: Evidence) -> Remedy:
    limit = max_norm(e)
    return _clip(e, limit, "Clip gradients", *CLIPPING)


def clip_half(e: Evidence) -> Remedy:
    was, advised = e.gradients.max_norm if e.gradients else None, max_norm(e)
    limit = advised / 2 if was is None else advised if was > advised else was / 2
    return _clip(e, limit, "Clip harder if NaN persists", "stricter clipping if NaN persists | 0.5")


def _clip(e: Evidence, limit: float, title: str, *covers: str) -> Remedy:
    was, usual = e.gradients.max_norm if e.gradients else None, usual_norm(e)
    written = code_lines.decimal(limit)
    change = f"max_norm {num(was)} -> {num(limit)}" if was else f"clip at norm {written} (now: no clipping)"
    if max_norm(e) != 1.0:
        change += f"; the guide's 1.0 is for norms below it, here it is usually {num(usual)}"
    return Remedy(title, change, SOURCE, treatments.ADAPTIVE_CLIPPING, code_lines.clip(e, limit), covers)


def warm_up_cosine(e: Evidence) -> Remedy:
    """A tenth of the epochs, as 5 of the guide's 50; of a run of one or two epochs a tenth of its steps."""
    epochs, every = e.style.epochs, "epoch"
    first, rest = f"{WARM_EPOCHS}", f"epochs - {WARM_EPOCHS}"
    if epochs is not None and epochs < 5:
        total, every = (e.style.total or e.steps or 100), "batch"
        first = f"{max(1, total // 10)}"
        rest = f"{max(1, total - max(1, total // 10))}"
    elif epochs is not None:
        warm = WARM_EPOCHS if epochs >= ITS_EPOCHS else max(1, round(epochs / 10))
        first, rest = f"{warm}", f"{epochs - warm}"
    adapted = "" if first == f"{WARM_EPOCHS}" and every == "epoch" else " (the guide: 5 of 50 epochs)"
    plural = {"epoch": "epochs", "batch": "steps"}[every]
    made = f"SequentialLR(optimizer, [LinearLR(optimizer, 0.1, total_iters={first}), "
    made += f"CosineAnnealingLR(optimizer, {rest})], [{first}])"
    return Remedy(
        f"Warm up for {first} {plural if first != '1' else every}, then cosine",
        f"LinearLR(start_factor 0.1, total_iters {first}), then CosineAnnealingLR(T_max {rest}), "
        f"milestones [{first}]{adapted}",
        SOURCE,
        treatments.WARM_UP,
        code_lines.schedule(e, made, every),
        ("LinearLR(start_factor 0.1, total_iters 5)",),
    )


def adamw(e: Evidence) -> Remedy:
    """In place of Adam, says the guide. A rate of SGD does not carry over."""
    was, lr = (e.optimizer.name if e.optimizer else "Adam"), rate(e)
    keeps = e.optimizer is None or e.optimizer.adaptive
    new = lr if keeps and lr is not None else ADAM_LR
    told = [f"{was} -> AdamW"] if was != "AdamW" else ["AdamW"]
    told += [] if keeps else [f"lr {num(lr)} -> {num(new)} (a rate of {was} does not carry over)"]
    told += [_from_to("weight_decay", setting(e, "weight_decay"), 1e-4), _from_to("eps", setting(e, "eps"), 1e-8)]
    return Remedy(
        "A more conservative optimizer",
        ", ".join(told),
        SOURCE,
        treatments.OPTIMIZER,
        code_lines.adamw(e, new, 1e-4),
        ("AdamW in place of Adam", "more conservative optimizer settings"),
    )


def _from_to(name: str, was: float | None, new: float) -> str:
    return f"{name} {num(new)}" if was is None or was == new else f"{name} {num(was)} -> {num(new)}"


def larger_batch(e: Evidence) -> Remedy:
    """The documents disagree: nan-guide says larger, monash-stability smaller. Larger is followed."""
    now = e.style.batch
    change = f"batch size {FIRST_BATCH}, then {NEXT_BATCH} per GPU"
    if now is not None and now < FIRST_BATCH:
        change = f"batch size {now} -> {FIRST_BATCH}, then {NEXT_BATCH} per GPU"
    elif now is not None:
        change = f"batch size {now} -> {2 * now} (the guide: {FIRST_BATCH}, then {NEXT_BATCH} per GPU)"
    told = "monash-stability says smaller (16 or 8); larger is followed here, since it makes the gradient less noisy"
    covers = ("larger is steadier but needs more memory", "larger batch if memory allows")
    return Remedy("A larger batch, if memory allows", f"{change}. {told}", SOURCE, covers=covers)


def clamp_attention(e: Evidence) -> Remedy:
    return Remedy(
        "Keep attention scores in range",
        "scores clamped to [-10, 10] before softmax",
        SOURCE,
        treatments.ATTENTION_LOGITS,
        "scores = scores.clamp(-10, 10)  # then masked_fill, then softmax",
        ("scores squeezed, clamped to [-10, 10]",),
    )


def skip_bad_loss(e: Evidence) -> Remedy:
    return Remedy(
        "Guard against a NaN loss",
        "test the loss before backward and clip; every process skips the batch. repair-not-skip disagrees: "
        "it repairs instead; skipping is followed, since a repaired batch still teaches what is wrong; neither "
        "removes the cause",
        SOURCE,
        treatments.NONFINITE_GRADIENTS,
        code_lines.skip(e, "not torch.isfinite(loss)"),
        ("every process skips the batch",),
    )


def float32(e: Evidence) -> Remedy:
    was = "bf16" if e.precision.bfloat16 and not e.precision.float16 else "fp16"
    return Remedy(
        "Mixed precision off, until training is stable",
        f"{was} -> fp32; turn it on again once training is stable",
        SOURCE,
        None,
        code_lines.full_precision(e),
        ("mixed precision off", "turn it on again once training is stable"),
    )


def scan_data(e: Evidence) -> Remedy:
    return Remedy(
        "Scan the data before training",
        "every tensor of every batch for NaN/Inf",
        SOURCE,
        treatments.DATA,
        "for batch in loader: assert all(torch.isfinite(t).all() for t in batch if t.is_floating_point())",
        ("every sequence of every batch is scanned for NaN/Inf", "data free of outliers"),
    )


def label_smoothing(e: Evidence) -> Remedy:
    code = "criterion = torch.nn.CrossEntropyLoss(label_smoothing=0.1)"
    if e.style.hf_trainer:
        code = "TrainingArguments(..., label_smoothing_factor=0.1)"
    change = "CrossEntropyLoss(label_smoothing=0.1), where the loss is one of classes"
    return Remedy("Soften the targets", change, SOURCE, None, code, ("CrossEntropyLoss(label_smoothing 0.1)",))


def start_over(e: Evidence) -> Remedy:
    """The documents disagree: repair-not-skip fills NaN weights with small random values. Starting over is followed."""
    saved = " (this run saved one)" if e.style.saves else ""
    return Remedy(
        "Start over from a clean state",
        f"weights that are NaN do not recover: restart, or load the last checkpoint before the failure{saved} "
        "(repair-not-skip would fill them with normal * 0.01; started over is followed here, since the optimizer's "
        "state and what the weights had learned are lost)",
        SOURCE,
        treatments.ROLLBACK,
        covers=("training must start over",),
    )


def more_epochs(e: Evidence) -> Remedy:
    now = f"epochs {e.style.epochs} -> {2 * e.style.epochs}" if e.style.epochs else "more epochs"
    change = f"{now}: a lower lr is slower, but stability matters more"
    return Remedy("Make up for a lower lr with epochs", change, SOURCE, covers=("compensate with epochs",))


def stable_configuration(e: Evidence) -> Remedy:
    """What the guide runs when nobody knows why: all of its measures at once."""
    lr = rate(e)
    halved = STABLE_LR if lr is None or STABLE_LR < lr <= 2 * ADAM_LR else rounded(lr / 2)
    change = f"lr {num(lr)} -> {num(halved)}" if lr else f"lr {num(halved)}"
    if e.precision.float16 or e.precision.bfloat16 or e.precision.autocast:
        change += ", mixed precision off (fp32)"
    clipping = f", clipping at {code_lines.decimal(max_norm(e))}" if not e.style.clips else ""
    return Remedy(
        "Train again with the guide's stable configuration",
        f"{change}{clipping}, NaN detection on",
        SOURCE,
        treatments.LEARNING_RATE,
        code_lines.optimizer(e, halved),
        ("stable configuration (recommended, a script)", "train again with the stable script"),
    )


def by_hand(e: Evidence) -> Remedy:
    words = "--batch-size 4 --epochs 50 --lr 5e-5 --weight-decay 1e-5"
    code = f"accelerate launch train.py {words}" if e.style.accelerate else None
    change = f"batch size {BY_HAND_BATCH} a GPU, 50 epochs, lr 5e-5, weight decay 1e-5: the guide's own run on two GPUs"
    return Remedy("Or by hand", change, SOURCE, None, code, (words,))


def monitor(e: Evidence) -> Remedy:
    gpu = "; watch -n 1 nvidia-smi" if e.style.cuda else ""
    change = f"tensorboard --logdir=output/{gpu}; a history.csv with epoch, train_loss, val_loss, val_acc"
    covers = ("tensorboard --logdir=output/", "training_history.csv", *(("watch -n 1 nvidia-smi",) if gpu else ()))
    return Remedy("Watch the run", change, SOURCE, covers=covers)


def labels(e: Evidence) -> Remedy:
    """Wrong labels are among the guide's causes."""
    low, high = (e.data.labels_low, e.data.labels_high) if e.data else (None, None)
    seen = f": they are {num(low)} to {num(high)} here" if high is not None else ""
    change = f"do they belong to their inputs{seen}? Print some of them side by side"
    return Remedy("Look at the labels", change, SOURCE)
