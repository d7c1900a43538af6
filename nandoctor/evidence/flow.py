"""Where gradients stop at once, and how far they come through time: output gradients by layer and by call (E21)."""

from dataclasses import dataclass

import numpy as np

from ..trace.schema import DTYPES
from ..trace.trace import Rows, Trace
from .series import Floats, median
from .sizes import root_mean_square

STEPS = 20  # steps that are read, from the first on
FEW = 4  # of them: the first batch alone may be silent by chance
SOUND = 1e-20  # rms of a gradient that is far from the smallest number of its type: what comes next did not underflow
HALF, SMALLEST_HALF = DTYPES.index("float16"), 2.0**-14  # normal number: below, the next product may round to 0
UNROLLED = 8  # uses of one layer in a step: a recurrence


@dataclass(frozen=True)
class Flow:
    blocked: str | None  # the layer nearest to the loss whose gradient, like all behind it, is exactly 0 at every step
    before: str | None  # the one before it, whose gradient is sound
    silenced: str | None  # the layer nearest to the loss: never above 0, and no gradient at all reaches it or another
    unfed: str | None  # weight matrix without any gradient, of a layer used over and over whose output gets one
    unreached: str | None  # the first layer: its output gets gradients, its weight never: nothing of the input comes
    through_time: float | None  # rms of the gradient at the first use of a layer / at its loudest, the smallest
    recurrent: str | None  # that layer


def gather(trace: Trace) -> Flow | None:
    rows = trace.rows("output_gradient")
    rows = rows[(rows["mode"] == 0) & (rows["step"] < STEPS)]
    steps = np.unique(rows["step"])
    if len(steps) < FEW:
        return None
    rms = _rms(trace, rows)
    blocked, before = _blocked(trace, rows, rms)
    times = [(share, subject) for subject in np.unique(rows["subject"]) if (share := _time(rows, rms, subject))]
    least = min(times, default=None)
    return Flow(
        blocked=blocked,
        before=before,
        silenced=_silenced(trace, rows, rms),
        unfed=_unfed(trace, rows, rms),
        unreached=_unreached(trace, rows, rms),
        through_time=least[0] if least else None,
        recurrent=_name(trace, least[1]) if least else None,
    )


def _blocked(trace: Trace, rows: Rows, rms: Floats) -> tuple[str | None, str | None]:
    """Backward visits the layers from the loss on. Shrinking takes many layers; a flat activation takes one."""
    order = list(dict.fromkeys(rows["subject"].tolist()))
    loudest = [float(rms[rows["subject"] == s].max()) for s in order]
    stop = next((place for place in range(1, len(order)) if not any(loudest[place:])), None)
    half = stop is not None and bool((rows["dtype"][rows["subject"] == order[stop]] == HALF).any())
    if stop is None or not loudest[stop - 1] > (SMALLEST_HALF if half else SOUND):
        return None, None
    return _name(trace, order[stop]), _name(trace, order[stop - 1])


def _silenced(trace: Trace, rows: Rows, rms: Floats) -> str | None:
    """What a ReLU makes of outputs that are never above 0 is the answer 0, whatever the weights are."""
    if rms.any():
        return None
    last = int(rows["subject"][0])
    outputs = trace.rows("activation")
    outputs = outputs[(outputs["mode"] == 0) & (outputs["step"] < STEPS) & (outputs["subject"] == last)]
    silent = len(outputs) >= FEW and bool((outputs["high"] <= 0).all()) and bool((outputs["low"] < 0).any())
    return _name(trace, last) if silent else None


def _unfed(trace: Trace, rows: Rows, rms: Floats) -> str | None:
    """The gradient of a matrix is that of its output times its input: where only the product is 0, the input is."""
    uses = trace.rows("activation")
    uses = uses[(uses["mode"] == 0) & (uses["step"] < STEPS)]
    gradients = trace.rows("parameter_gradient")
    gradients = gradients[(gradients["mode"] == 0) & (gradients["step"] < STEPS)]
    parameters = {subject.name: subject.id for subject in trace.subjects.values() if subject.role == "parameter"}
    for subject in np.unique(rows["subject"]):
        own = parameters.get(f"{_name(trace, subject)}.weight")
        if own is None or int(uses["call"][uses["subject"] == subject].max(initial=0)) + 1 < UNROLLED:
            continue
        norms = gradients["norm"][gradients["subject"] == own]
        if len(norms) >= FEW and not norms.any() and (rms[rows["subject"] == subject] > SOUND).all():
            return f"{_name(trace, subject)}.weight"
    return None


def _unreached(trace: Trace, rows: Rows, rms: Floats) -> str | None:
    uses, gradients = trace.rows("activation"), trace.rows("parameter_gradient")
    names = {subject.name: subject.id for subject in trace.subjects.values() if subject.role == "parameter"}
    first = next((s for s in dict.fromkeys(uses["subject"].tolist()) if f"{_name(trace, s)}.weight" in names), None)
    if first is None:
        return None
    gradients = gradients[(gradients["subject"] == names[f"{_name(trace, first)}.weight"]) & (gradients["mode"] == 0)]
    norms = gradients["norm"]
    own = rms[rows["subject"] == first]
    asked = len(own) >= FEW and bool((own > SMALLEST_HALF).all())
    return _name(trace, first) if asked and len(norms) >= FEW and not norms.any() else None


def _time(rows: Rows, rms: Floats, subject: int) -> float | None:
    """Median over the steps. None for a layer that is not used again and again."""
    found = []
    for step in np.unique(rows["step"]):
        own = (rows["step"] == step) & (rows["subject"] == subject)
        calls, sizes = rows["call"][own], rms[own]
        if len(calls) >= UNROLLED and 0 < sizes.max() < np.inf:
            found.append(float(sizes[int(np.argmin(calls))] / sizes.max()))
    return median(np.array(found)) if len(found) >= FEW else None


def _rms(trace: Trace, rows: Rows) -> Floats:
    size = root_mean_square(trace, rows)
    return np.where(np.isfinite(size), size, np.inf)


def _name(trace: Trace, number: int) -> str:
    subject = trace.subjects.get(int(number))
    return subject.name if subject is not None else str(number)
