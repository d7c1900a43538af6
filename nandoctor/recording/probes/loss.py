"""The loss, read as backward is called on it: the graph is still whole then."""

import functools
import math
import sys
from functools import partial
from typing import Any

import torch
from torch import _C, Tensor

from ..attach import watch_lookup, watch_method
from ..autopsy.incidents import Alarms
from ..run import Run
from ..stats import detach, item, local, measurable
from . import labels, targets
from .optimizer import Optimizers
from .weights import Weights

REENTRANT = "inside blocks under checkpoint(use_reentrant=True) no gradients of outputs are recorded"


def install(run: Run, alarms: Alarms, weights: Weights, optimizers: Optimizers) -> None:
    read = run.recorder.guard("loss", partial(backward, run, alarms))
    clear = run.recorder.guard("optimizer", optimizers.backward_begins)
    look = run.recorder.guard("weights", weights.first_look)

    def guarded(loss: Tensor) -> None:
        if _C._current_graph_task_id() != -1:  # from inside a backward: a checkpointed block is computed again
            run.recorder.unseen(REENTRANT)
            return
        run.reads.asleep = False  # a step may have ended in an exception
        if run.recorder.governor.whole:
            look()
            clear()
        read(loss)

    watch_method(torch.Tensor, "backward", guarded)

    # torch.autograd.backward(losses) called by the user himself, not by Tensor.backward
    inner = torch.Tensor.__dict__["backward"].original.__code__
    original = torch.autograd.backward

    @functools.wraps(original)
    def several(tensors: Any, *args: Any, **kwargs: Any) -> None:
        if not isinstance(tensors, Tensor):
            tensors = tuple(tensors)  # as torch does; an iterator gives them once only
        for loss in [tensors] if isinstance(tensors, Tensor) else tensors[:1]:
            guarded(loss)
        original(tensors, *args, **kwargs)

    def choose() -> Any:
        return None if sys._getframe(2).f_code is inner else several

    watch_lookup(torch.autograd, ("backward",), choose)


def backward(run: Run, alarms: Alarms, loss: Tensor) -> None:
    """One call of backward begins."""
    recorder = run.recorder
    if not recorder.governor.whole and quiet(run, alarms, loss):
        return
    whole, loss = loss, local(loss)
    if not measurable(loss):
        return  # a meta or fake tensor: nothing trains
    recorder.claim()
    if run.overshoot is not None:
        run.overshoot.backward_begins(loss)
    given = item(detach(loss)) if loss.numel() == 1 else float(torch.linalg.vector_norm(detach(loss).float()))
    value = run.scaled_losses.get(id(whole), given)
    recorder.governor.loss(value)
    alarms.backward_begins(whole, given if value == value and abs(value) != float("inf") else value)
    if recorder.governor.whole:
        labels.look(run, whole)
        targets.look(run, whole)
    recorder.backward_begins(value, given, divisor(whole.grad_fn))
    run.scaled_losses.clear()


def quiet(run: Run, alarms: Alarms, loss: Tensor) -> bool:
    """All of it for a finite loss of a known graph, in a step that is not recorded whole. False: nothing was done."""
    if type(loss) is not Tensor or not loss.is_cpu or loss.dim() or not loss.is_floating_point():
        return False
    node, recorder = loss.grad_fn, run.recorder
    if node is None or recorder.writer is None or run.overshoot is not None or loss.layout is not torch.strided:
        return False
    given = item(loss)
    if not math.isfinite(given) or not alarms.quiet_backward():
        return False
    value = run.scaled_losses.get(id(loss), given)
    recorder.governor.loss(value)
    recorder.backward_begins(value, given, divisor(node))
    run.scaled_losses.clear()
    return True


def divisor(node: Any) -> float:
    """What the user divided the loss of this graph node by last, as one does to accumulate gradients; below a scaling.

    0 for nothing.
    """
    if node is not None and node.name() == "MulBackward0" and node.next_functions and node.next_functions[0][0]:
        other = _number(node, "_saved_other")
        if other is not None and 0 < other < 1:
            return 1 / other
        node = node.next_functions[0][0]
    if node is None or node.name() != "DivBackward0":
        return 0.0
    return _number(node, "_saved_other") or 0.0


def _number(node: Any, name: str) -> float | None:
    value = getattr(node, name, None)
    if isinstance(value, Tensor):
        return float(item(detach(value))) if value.numel() == 1 and value.device.type == "cpu" else None
    return float(value) if isinstance(value, (int, float)) else None
