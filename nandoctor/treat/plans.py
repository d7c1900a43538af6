"""Which treatments answer which cause, in the order in which they are tried: what measures best, or the documents'."""

from ..causes import CAUSES, treatments
from ..causes.bad_initialization import FAR_GAIN
from ..evidence import Evidence
from ..evidence.data import VERY_LOUD
from . import (
    accumulation,
    amp_order,
    batchnorm,
    clipping,
    data,
    float32,
    initialization,
    learning_rate,
    loss_cap,
    loss_scale,
    master_weights,
    operations,
    optimizer_settings,
    rollback,
    softmax,
    warm_up,
)
from .applied import Treat

UNKNOWN = "unknown"
Plan = tuple[tuple[str, Treat], ...]

CLIP = (treatments.ADAPTIVE_CLIPPING, clipping.usual)
SLOWER = (treatments.LEARNING_RATE, learning_rate.slower)
ISLAND = (treatments.AMP_ORDER, float32.island)
ALL_FLOAT32 = (treatments.AMP_ORDER, float32.everywhere)
WIDE = (treatments.AMP_ORDER, float32.where_it_overflows)
FLUSHED = (treatments.AMP_ORDER, float32.where_it_flushes)
SCALE = (treatments.AMP_ORDER, loss_scale.supplied)
INSIDE = (treatments.OPERATIONS, operations.inside)
ANYWHERE = (treatments.OPERATIONS, float32.anywhere)
RESTORED = (treatments.NONFINITE_WEIGHTS, rollback.restored)
BACK = (treatments.ROLLBACK, rollback.slower)
TAME = (treatments.DATA, data.tame)
FIRST_WEIGHTS = (treatments.INITIALIZATION, initialization.rescaled)

MEASURED: dict[str, Plan] = {
    "lr-too-high": (SLOWER, SLOWER, (treatments.ADAPTIVE_CLIPPING, clipping.strict)),
    "exploding-gradients": (CLIP, (treatments.ADAPTIVE_CLIPPING, clipping.strict), SLOWER),
    "data-outlier": (TAME, CLIP, SLOWER),
    "bad-input-data": ((treatments.DATA, data.replace), ANYWHERE),
    "bad-labels": ((treatments.DATA, data.replace), ANYWHERE),
    "batchnorm-tiny-batch": ((treatments.BATCHNORM, batchnorm.running), INSIDE, SLOWER),
    "fp16-overflow": (ISLAND, WIDE, ALL_FLOAT32, SCALE),
    "fp16-underflow": ((treatments.AMP_ORDER, master_weights.kept), SCALE, FLUSHED),
    "amp-misuse": ((treatments.AMP_ORDER, amp_order.mended), SCALE),
    "masked-softmax": ((treatments.ATTENTION_LOGITS, softmax.open_rows), (treatments.DATA, data.replace)),
    "unsafe-op": (INSIDE, ANYWHERE, BACK),
    "optimizer-epsilon": ((treatments.OPTIMIZER, optimizer_settings.usual), SLOWER),
    "gradient-accumulation-bug": ((treatments.ACCUMULATION, accumulation.cleared), SLOWER),
    "bad-initialization": (FIRST_WEIGHTS, SLOWER),
    "corrupt-weights": (RESTORED, RESTORED, BACK),
    UNKNOWN: (ANYWHERE, BACK, SLOWER, (treatments.ADAPTIVE_CLIPPING, clipping.strict)),
}

DOCUMENTS: dict[str, Treat] = {  # by the name that a remedy gives
    treatments.ADAPTIVE_CLIPPING: clipping.ladder,
    treatments.NONFINITE_GRADIENTS: loss_cap.checked,
    treatments.NONFINITE_WEIGHTS: rollback.checked,
    treatments.LOSS_CAP: loss_cap.cap,
    treatments.LEARNING_RATE: learning_rate.halved,
    treatments.WARM_UP: warm_up.ramp,
    treatments.AMP_ORDER: amp_order.mended,
    treatments.ATTENTION_LOGITS: softmax.squeezed,
    treatments.BATCHNORM: batchnorm.running,
    treatments.DATA: data.replace,
    treatments.OPTIMIZER: optimizer_settings.usual,
    treatments.ROLLBACK: rollback.slower,
    treatments.ACCUMULATION: accumulation.cleared,
}
OF_UNKNOWN = (treatments.ADAPTIVE_CLIPPING, treatments.LOSS_CAP, treatments.LEARNING_RATE)


TORN = 1.0  # the first update was as large as the weights
AT_ONCE = 5  # steps: first weights that fail a run fail it by then
MAY_FOLLOW = ("unsafe-op", "exploding-gradients", "masked-softmax", "fp16-overflow", UNKNOWN)  # may be of second rank


def plan(cause: str, documents: bool, e: Evidence, past: bool = False) -> Plan:
    """Empty for a cause that no treatment at run time can help: then nothing is done.

    past: a step was taken past the GradScaler that had scaled its loss.
    """
    if not documents or cause not in MEASURED:
        found = MEASURED.get(cause, ())
        return (*beneath(e, past), *found) if cause in MAY_FOLLOW else found
    if cause == UNKNOWN:
        return tuple((name, DOCUMENTS[name]) for name in OF_UNKNOWN)
    known = next(found for found in CAUSES if found.id == cause)
    names = dict.fromkeys(remedy.treatment for remedy in known.remedies(e) if remedy.treatment in DOCUMENTS)
    return tuple((name, DOCUMENTS[name]) for name in names if name is not None)


def beneath(e: Evidence, past: bool = False) -> Plan:
    """What lies beneath an operation that left its domain or its type: weights or data that no operation can bear."""
    weights, given, optimizer = e.weights, e.data, e.optimizer
    if past and e.onset.step <= AT_ONCE:
        return ((treatments.AMP_ORDER, amp_order.unscaled_before_step),)
    if given is not None and (given.loudest_ratio or 0) >= VERY_LOUD:
        return (TAME,)
    far = weights is not None and (weights.worst_gain or 0) >= FAR_GAIN
    if e.bad is not None and (far and e.bad.step <= AT_ONCE or e.bad.op in operations.EXPS and e.bad.step == 0):
        return (FIRST_WEIGHTS,)
    # Adam's step does not grow with the gradient: as large as the weights, it is one of the learning rate alone
    if optimizer is not None and optimizer.adaptive and (optimizer.update_ratio_first or 0) >= TORN:
        return (SLOWER,)
    return ()
