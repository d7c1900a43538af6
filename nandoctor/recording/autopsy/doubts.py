"""A guard of the user's looks at a value inside the model, or of many elements, that is not finite.

It may be masked out again, or be the reason why the program leaves the batch out, or ends. It is traced at once, while
its graph stands, and counts unless a finite loss is computed of it.
"""

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..incident import Incident
from ..quiet import quiet
from ..run import Call, sequence_number
from ..stats import detach, item
from .births import kind_of
from .operations import MASKS
from .values import Graph, order


@dataclass
class Doubt:
    number: int  # of the node that holds the value
    incident: Incident  # its birth
    left_out: bool = False  # the model was called anew, and no backward between


def doubt(alarms: Any, values: list[Tensor]) -> None:
    """The program asks whether something is finite, and this is not."""
    value = next((value for value in values if value.grad_fn is not None), None)
    if value is None or alarms.doubted is not None or alarms.filed:
        return
    number = order(value.grad_fn)
    if number not in alarms.examined and number >= alarms.began[1]:
        incident = _traced(alarms, value)
        if kind_of(value) != "-inf" or incident.op is not None and incident.op not in MASKS:
            alarms.doubted = Doubt(number, incident)


def settle(alarms: Any, loss: Tensor) -> None:
    """backward was called: a finite loss of the same batch has done without the value; one of another left it out."""
    if alarms.doubted is None:
        return
    held: Doubt = alarms.doubted
    alarms.doubted = None
    if not math.isfinite(_value(loss)):
        return  # the same birth, or an earlier one, is traced from the loss
    if held.left_out and held.number not in {order(node) for node in Graph(loss.grad_fn).nodes}:
        alarms.file(held.incident)


def at_the_end(alarms: Any) -> None:
    """No backward followed."""
    if alarms.doubted is not None and not alarms.filed:
        alarms.run.recorder.claim()
        alarms.file(alarms.doubted.incident)
    alarms.doubted = None


def _traced(alarms: Any, value: Tensor) -> Incident:
    """Not filed: what becomes of the value decides. The modules that run now have not ended."""
    run, now = alarms.run, sequence_number()
    alarms.lines.stop()
    ended = run.calls
    running = [Call(layer, number, start, now) for layer, start, number in run.thread.stack]
    run.calls = [*running, *ended]  # outermost first
    try:
        with quiet():
            incident: Incident = alarms.trace("loss", value, None)
    finally:
        run.calls = ended
    return incident


def _value(loss: Tensor) -> float:
    return float(item(detach(loss))) if loss.numel() == 1 else 0.0
