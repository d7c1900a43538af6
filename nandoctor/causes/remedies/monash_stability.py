"""[monash-stability]: repair of a time-series model whose data sets differ hugely in range."""

from ...evidence import Evidence
from .. import treatments
from ..cause import Remedy
from ..wording import num
from . import code_lines
from .this_run import max_norm, rate, rounded, setting

SOURCE = "monash-stability"
CAP, FAR_ABOVE = 1e6, 1e3  # its cap; and that many times the usual loss, where losses are large by nature
ADAM_LR = 1e-5  # what it lowered its AdamW to
LARGE = 1e10  # a value that it warns of
FIRST_BATCH, NEXT_BATCH = 16, 8


def clip(e: Evidence) -> Remedy:
    limit = max_norm(e)
    return Remedy(
        "Clip gradients, and keep the norm",
        f"clip at norm {code_lines.decimal(limit)}; the norm that it returns is kept and watched: it should stay below",
        SOURCE,
        treatments.ADAPTIVE_CLIPPING,
        code_lines.clip(e, limit, keep=True),
        ("clip_grad_norm_, max norm 1.0, the returned norm is kept",),
    )


def clip_harder(e: Evidence) -> Remedy:
    limit = max_norm(e) / 2
    return Remedy(
        "Clip harder if it is still unstable",
        f"max_norm {num(2 * limit)} -> {num(limit)}",
        SOURCE,
        treatments.ADAPTIVE_CLIPPING,
        code_lines.clip(e, limit),
        ("stricter clipping, 0.5",),
    )


def loss_cap(e: Evidence) -> Remedy:
    usual = e.loss.pre_median if e.loss else None
    cap = CAP if usual is None or not FAR_ABOVE * usual > CAP else rounded(FAR_ABOVE * usual)
    why = f" (the document's 1e6 is less than a thousand times the usual {num(usual)})" if cap != CAP else ""
    written = "1e6" if cap == CAP else num(cap)
    return Remedy(
        "Cap the loss",
        f"a batch whose loss exceeds {written} does not move the weights{why}",
        SOURCE,
        treatments.LOSS_CAP,
        code_lines.skip(e, f"not loss.item() <= {written}") if not e.style.hf_trainer else None,
        ("loss > 1e6",),
    )


def nan_guard(e: Evidence) -> Remedy:
    return Remedy(
        "Guard outputs, loss and gradients",
        "output NaN/Inf: warn and skip the batch; loss NaN/Inf: skip; any gradient NaN: skip the update",
        SOURCE,
        treatments.NONFINITE_GRADIENTS,
        code_lines.skip(e, "not (torch.isfinite(output).all() and torch.isfinite(loss))"),
        ("any gradient NaN: skip the update",),
    )


def reduce_on_plateau(e: Evidence) -> Remedy:
    made = "torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode='min', factor=0.5, patience=5)"
    code = f"scheduler = {made}  # scheduler.step(val_loss) after every epoch"
    if e.style.lightning:
        inner = f"{{'scheduler': {made}, 'monitor': 'val_loss'}}"
        code = f"return {{'optimizer': optimizer, 'lr_scheduler': {inner}}}  # in configure_optimizers"
    elif e.style.hf_trainer:
        code = "TrainingArguments(..., lr_scheduler_type='reduce_lr_on_plateau')"
    return Remedy(
        "Let the schedule react",
        "ReduceLROnPlateau(mode='min', factor=0.5, patience=5)",
        SOURCE,
        treatments.LEARNING_RATE,
        code,
        ("ReduceLROnPlateau(mode min, factor 0.5, patience 5)",),
    )


def adamw(e: Evidence) -> Remedy:
    decay, eps, lr = setting(e, "weight_decay"), setting(e, "eps"), rate(e)
    adaptive = e.optimizer is None or e.optimizer.adaptive
    was = [
        f"{name} {num(value)}"
        for name, value, new in (("weight_decay", decay, 1e-4), ("eps", eps, 1e-8))
        if value not in (None, new)
    ]
    now = f" (now {', '.join(was)})" if was else ""
    return Remedy(
        "Regularise and keep eps",
        f"AdamW, weight_decay 1e-4, eps 1e-8{now}",
        SOURCE,
        treatments.OPTIMIZER,
        code_lines.adamw(e, lr if lr is not None and adaptive else ADAM_LR, 1e-4),
        ("AdamW, weight_decay 1e-4 (added), eps 1e-8",),
    )


def lower_lr(e: Evidence) -> Remedy:
    lr = rate(e)
    change = f"lr {num(lr)} -> {num(lr / 5)}, then {num(lr / 10)}" if lr else "lr to a fifth, then a tenth"
    return Remedy(
        "Lower the learning rate in its steps",
        f"{change} (the document: 5e-5 -> 1e-5 -> 5e-6)",
        SOURCE,
        treatments.LEARNING_RATE,
        code_lines.optimizer(e, rounded(lr / 5)) if lr else None,
        ("5e-5 -> 1e-5", "lr 5e-6"),
    )


def normalise(e: Evidence) -> Remedy:
    data = e.data
    name = data.first_tensor if data and data.first_tensor else "x"
    seen = f" (values up to {num(data.first_absmax)} now)" if data and data.first_absmax else ""
    return Remedy(
        "Normalise each data set",
        f"{name} to mean 0 and standard deviation 1{seen}; remove outliers, filter more strictly",
        SOURCE,
        treatments.DATA,
        "x = (x - mean) / std.clamp_min(1e-6)  # mean and std of the training set",
        ("normalise each data set, remove outliers, filter more strictly",),
    )


def validate_data(e: Evidence) -> Remedy:
    loud = e.data.loudest_absmax if e.data else None
    seen = f" (this run's largest: {num(loud)})" if loud is not None else ""
    return Remedy(
        "Validate the data when it is loaded",
        f"leave out a series that holds Inf; warn of a maximum above {num(LARGE)}{seen}",
        SOURCE,
        treatments.DATA,
        "series = [s for s in series if torch.isfinite(s).all()]",
        ("a series with Inf", "maximum > 1e10"),
    )


def smaller_batch(e: Evidence) -> Remedy:
    """nan-guide says larger, and that is followed: this is for when memory or result do not allow it."""
    now = e.style.batch
    change = f"batch size {FIRST_BATCH} or {NEXT_BATCH}"
    if now is not None and now > NEXT_BATCH:
        change = f"batch size {now} -> {FIRST_BATCH if now > FIRST_BATCH else NEXT_BATCH}, then {NEXT_BATCH}"
    told = "only where a larger one did not help or fit: nan-guide says larger, which is followed, since it makes the "
    return Remedy("A smaller batch", f"{change}; {told}gradient less noisy", SOURCE, covers=("batch size 16 or 8",))
