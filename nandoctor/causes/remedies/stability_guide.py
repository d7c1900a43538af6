"""[stability-guide]: a tutorial on training stability."""

from ...evidence import Evidence
from .. import treatments
from ..cause import Remedy

SOURCE = "stability-guide"
LEAST_WARM_UP = 10  # steps


def warm_up(e: Evidence) -> Remedy:
    steps = max(LEAST_WARM_UP, e.steps // 10)
    return Remedy(
        "Warm the learning rate up",
        f"lr(t) = lr * min(1, t / warmup) over 5-10 % of all steps, then decay (this trace: {e.steps} steps)",
        SOURCE,
        treatments.WARM_UP,
        f"LambdaLR(optimizer, lambda t: min(1.0, (t + 1) / {steps}))  # scheduler.step() after every batch",
    )


def amp_order(e: Evidence) -> Remedy:
    return Remedy(
        "Keep the order of a mixed-precision step",
        "scale(loss).backward() -> unscale_ -> clip 1.0 -> scaler.step -> scaler.update, each once",
        SOURCE,
        treatments.AMP_ORDER,
        "scaler.unscale_(optimizer); torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0); "
        "scaler.step(optimizer); scaler.update()",
    )


def grad_scaler(e: Evidence) -> Remedy:
    return Remedy(
        "fp16 only with a GradScaler",
        "no GradScaler -> torch.amp.GradScaler around backward and step",
        SOURCE,
        treatments.AMP_ORDER,
        "scaler = torch.amp.GradScaler()  # scaler.scale(loss).backward(); scaler.step(optimizer); scaler.update()",
    )


def lr_with_accumulation(e: Evidence) -> Remedy:
    return Remedy(
        "Scale lr with gradient accumulation",
        "lr for the batch that one step really sees",
        SOURCE,
        treatments.LEARNING_RATE,
    )
