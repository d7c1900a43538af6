"""The loss, read as backward is called on it: the graph is still whole then."""

import functools
import sys
from typing import Any

import torch
from torch import Tensor

from ..attach import watch_lookup, watch_method
from ..autopsy.incidents import Alarms
from ..run import Run
from ..stats import detach, item, measurable
from .weights import Weights


def install(run: Run, alarms: Alarms, weights: Weights) -> None:
    read = run.recorder.guard("loss", lambda loss: backward(run, alarms, loss))
    look = run.recorder.guard("weights", weights.first_look)

    def guarded(loss: Tensor) -> None:
        look()
        read(loss)

    watch_method(torch.Tensor, "backward", guarded)

    # torch.autograd.backward(losses) called by the user himself, not by Tensor.backward
    inner = torch.Tensor.__dict__["backward"].original.__code__
    original = torch.autograd.backward

    @functools.wraps(original)
    def several(tensors: Any, *args: Any, **kwargs: Any) -> None:
        for loss in [tensors] if isinstance(tensors, Tensor) else list(tensors)[:1]:
            guarded(loss)
        original(tensors, *args, **kwargs)

    def choose() -> Any:
        return None if sys._getframe(2).f_code is inner else several

    watch_lookup(torch.autograd, ("backward",), choose)


def backward(run: Run, alarms: Alarms, loss: Tensor) -> None:
    """One call of backward begins."""
    recorder = run.recorder
    if not measurable(loss):
        return  # a meta or fake tensor: nothing trains
    recorder.claim()
    given = item(detach(loss)) if loss.numel() == 1 else float(torch.linalg.vector_norm(detach(loss).float()))
    value = run.scaled_losses.get(id(loss), given)
    alarms.backward_begins(loss, given if value == value and abs(value) != float("inf") else value)
    recorder.value("loss", recorder.subject("loss", "loss"), value)
    recorder.backward_begins(given)
    run.scaled_losses.clear()
