"""A guard of the user's looks at a value inside the model, or of many elements, that is not finite.

It may be masked out again, or be the reason why the program leaves the batch out, or ends. It is traced at once, while
its graph stands, and counts unless a finite loss is computed of it.
"""

import math
from typing import Any

from torch import Tensor

from ..stats import detach, item
from .births import kind_of
from .operations import MASKS
from .values import Graph, order


def doubt(alarms: Any, values: list[Tensor]) -> None:
    """The program asks whether something is finite, and this is not."""
    value = next((value for value in values if value.grad_fn is not None), None)
    if value is None or alarms.doubted is not None or alarms.filed:
        return
    number = order(value.grad_fn)
    if number not in alarms.examined and number >= alarms.began[1]:
        incident = alarms.traced(value)
        if kind_of(value) != "-inf" or incident.op is not None and incident.op not in MASKS:
            alarms.doubted = number, incident


def settle(alarms: Any, loss: Tensor) -> None:
    """backward was called: a finite loss that was computed of the value has masked it; another one left it out."""
    if alarms.doubted is None:
        return
    number, incident = alarms.doubted
    alarms.doubted = None
    if not math.isfinite(_value(loss)):
        return  # the same birth, or an earlier one, is traced from the loss
    if number not in {order(node) for node in Graph(loss.grad_fn).nodes}:
        alarms.file(incident)


def at_the_end(alarms: Any) -> None:
    """No backward followed."""
    if alarms.doubted is not None and not alarms.filed:
        alarms.run.recorder.claim()
        alarms.file(alarms.doubted[1])
    alarms.doubted = None


def _value(loss: Tensor) -> float:
    return float(item(detach(loss))) if loss.numel() == 1 else 0.0
