"""GradScaler is called in the wrong order.

What happens
    Gradients carry the loss scale, 65536 at first, from backward to unscale_.
    Clipping before unscale_ clips to a 65536th of what was meant. unscale_ twice
    between two updates raises an error; a way through the loop that leaves out
    update() does so one batch later. A division by get_scale() of one's own after
    unscale_ leaves a 65536th of every gradient.

How to tell it from its neighbours
    fp16-overflow: a forward value passes 65504, whatever the order of calls.
    Skips during the first steps, while the scale finds its level, are healthy.

What to do
    scale(loss).backward(), unscale_, clip, scaler.step, scaler.update: each once a
    step, update() also on the way that skips a batch.

Sources
    stability-guide (order of a step), repair-not-skip (unscale_ once)
"""

import re

from ..evidence import Evidence
from .cause import Answer, Cause, Fact, Remedy, Verdict
from .remedies import repair_not_skip, stability_guide
from .wording import num

MESSAGES = re.compile(
    r"unscale_\(\) has already been called|unscale_\(\) is being called after step|"
    r"step\(\) has already been called|No inf checks were recorded|but _scale is None|"
    r"Attempting to unscale FP16 gradients",
    re.IGNORECASE,
)
CRASHED = 0.97  # torch says it in words
ORDER = 0.85  # seen in the order of calls
FEW = 5  # steps
HALF = 0.5  # of the scaler's own steps: another optimizer that is stepped past it in every round or in every second
MOST = 0.9  # of the steps: a habit of the loop
PATIENCE = 20  # skips in a row: torch halves the scale at each, a millionth is left after twenty
BACKED_OFF = 1 / 16
SHRUNK = 5.0  # the loss scale over what gradients shrank by: sums of terms with signs differ from them by a few times
LARGE = 256.0  # a loss scale that no other habit of a program divides gradients by
CLIPS = 3  # a clip of scaled gradients seen so often is the loop, not an accident


def judge(e: Evidence) -> Answer:
    facts = []
    crash, calls, gradients = e.crash, e.scaler, e.gradients
    crashed = crash is not None and MESSAGES.search(crash.message) is not None
    if crashed and crash is not None:
        facts.append(Fact(f"{crash.type}: {crash.message.strip().splitlines()[0][:160]}"))
    if calls is not None and calls.unscaled_twice is not None:
        facts.append(Fact("unscale_ was called again before update()", step=calls.unscaled_twice))
    if calls is not None and calls.stepped_without_update is not None:
        facts.append(
            Fact(
                "scaler.step was called again before update()", calls.updates, calls.steps, calls.stepped_without_update
            )
        )
    clips = gradients.clipped_while_scaled if gradients else 0
    scale = e.precision.scale_first
    if clips >= CLIPS and (scale is None or scale > 1):
        facts.append(Fact(f"{clips} clips saw gradients still multiplied by the loss scale", clips, 0))
    shrunk = _divided_again(e)
    if shrunk is not None:
        times, size = shrunk
        text = f"gradients are {num(times)} times smaller than what reached the layers, and the loss scale is "
        facts.append(Fact(f"{text}{num(size)}: they are divided by it once more after unscale_", times, size))
    facts += _never(e)
    if not facts:
        return None
    return Verdict(CRASHED if crashed else ORDER, f"GradScaler is misused: {facts[0].fact}.", tuple(facts))


def _divided_again(e: Evidence) -> tuple[float, float] | None:
    shrunk = e.scaler.shrunk if e.scaler is not None else None
    return shrunk if shrunk is not None and shrunk[1] >= LARGE and shrunk[0] >= shrunk[1] / SHRUNK else None


def _never(e: Evidence) -> list[Fact]:
    """What is left out of the loop altogether."""
    calls, precision = e.scaler, e.precision
    if calls is None:
        return []
    facts = []
    if calls.seen_steps >= FEW and calls.stepped_scaled >= MOST * calls.seen_steps:
        facts.append(Fact(f"{calls.stepped_scaled} steps used gradients still multiplied by the loss scale"))
    if calls.steps >= FEW and calls.scaled == 0:
        facts.append(Fact(f"{calls.steps} scaler.step calls, and the loss was never scaled", calls.scaled, calls.steps))
    elif calls.steps >= FEW and (calls.unscaled_backwards or 0) >= MOST:
        facts.append(Fact("backward is called on the loss itself, scaler.step divides its gradients by the scale"))
    if calls.steps >= FEW and calls.updates == 0:
        facts.append(Fact(f"{calls.steps} scaler.step calls, and update() was never called", 0, calls.steps))
    if calls.beside >= FEW and calls.beside >= HALF * calls.steps:
        facts.append(Fact(f"{calls.beside} optimizer steps used gradients of a scaled loss that nothing unscaled"))
    first, last = precision.scale_first, precision.scale_last
    if first and last and e.steps >= PATIENCE and precision.skipped >= MOST * e.steps and last >= BACKED_OFF * first:
        text = f"{precision.skipped} of {e.steps} steps were skipped, and the scale only went from {num(first)}"
        facts.append(Fact(f"{text} to {num(last)}", last, first))
    return facts


def remedies(e: Evidence) -> tuple[Remedy, ...]:
    order, once = stability_guide.amp_order(e), repair_not_skip.unscale_once(e)
    twice = e.crash is not None or (e.scaler is not None and e.scaler.unscaled_twice is not None)
    return (once, order) if twice or _divided_again(e) else (order, once)


CAUSE = Cause("amp-misuse", "GradScaler called in the wrong order", __doc__, judge, remedies)
