"""One function for each kind of cure: it changes the source, or says that it cannot (False)."""

from collections.abc import Callable, Mapping
from typing import Any

from nandoctor.evidence import Evidence
from nandoctor.patching import expressions, loops, numbers
from nandoctor.patching.source import Source

Wanted = Mapping[str, Any]  # the `patch` of a treatment's note
Edit = Callable[[Source, Evidence, Wanted], bool]

EDITS: dict[str, Edit] = {
    "lr": numbers.learning_rate,
    "warm-up": loops.warm_up,
    "optimizer": numbers.optimizer_arguments,
    "clip": loops.clip,
    "unscale": loops.unscale,
    "unscale-once": loops.unscale_once,
    "update": loops.update,
    "scaler-step": loops.scaler_step,
    "scaled-backward": loops.scaled_backward,
    "zero-grad": loops.zero_grad,
    "zero-grad-moved": loops.zero_grad_moved,
    "divide": loops.divide,
    "loss-cap": loops.loss_cap,
    "drop-last": expressions.drop_last,
    "nan-to-num": expressions.nan_to_num,
    "operation": expressions.operation,
    "mask": expressions.open_rows,
    "float32": expressions.wider,
    "grad-scaler": expressions.wider,
    "scaler-defaults": expressions.scaler_defaults,
}

OF_A_CAUSE: dict[str, str] = {  # where nothing was treated: what the cause's own cure is
    "lr-too-high": "lr", "exploding-gradients": "clip", "bad-input-data": "nan-to-num", "fp16-overflow": "float32",
    "batchnorm-tiny-batch": "drop-last", "masked-softmax": "mask", "unsafe-op": "operation",
    "fp16-underflow": "grad-scaler", "optimizer-epsilon": "optimizer",
}  # fmt: skip


def wanted_of(cause: str, e: Evidence) -> Wanted | None:
    """What a treatment of this cause would have written down."""
    kind = OF_A_CAUSE.get(cause)
    if cause == "amp-misuse":
        kind = of_calls(e)
    elif cause == "gradient-accumulation-bug":
        kind = of_accumulation(e)
    bad = e.bad
    found: dict[str, Any] = {"kind": kind}
    if kind is None:
        return None
    if kind == "lr":
        ratio = e.optimizer.update_ratio_first if e.optimizer else None
        found["factor"] = min(0.1, 0.01 / ratio) if ratio else 0.1
    elif kind == "clip":
        found["max_norm"] = 1.0
    elif kind == "optimizer":
        found["arguments"] = numbers.usual(e)
    elif kind == "divide" and e.accumulation is not None and e.accumulation.backwards:
        found["by"] = e.accumulation.backwards / (e.accumulation.divisor or 1.0)
    elif bad is not None:
        found.update(op=bad.op, file=bad.file, line=bad.line, tensor=bad.tensor)
    return found


def of_calls(e: Evidence) -> str | None:
    calls = e.scaler
    if calls is None:
        return None
    if calls.unscaled_twice is not None:
        return "unscale-once"
    if calls.stepped_without_update is not None or (calls.steps and not calls.updates):
        return "update"
    if calls.seen_steps and calls.stepped_scaled >= 0.9 * calls.seen_steps:
        return "scaler-step"
    if calls.steps and (not calls.scaled or (calls.unscaled_backwards or 0) >= 0.9):
        return "scaled-backward"
    if e.gradients is not None and e.gradients.clipped_while_scaled:
        return "unscale"
    return "scaler-defaults"


def of_accumulation(e: Evidence) -> str | None:
    found = e.accumulation
    if found is None:
        return None
    if found.stale >= 0.3:
        return "zero-grad"
    return "zero-grad-moved" if found.lost >= 0.3 else "divide"


