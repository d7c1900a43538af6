"""One forked copy of the training that runs on from the model's call to `backward`, at moved weights, and reports."""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from ..run import sequence_number
from ..stats import detach
from .walls import forbid, same_random

LEFT = "the program took another way"  # an exception, or a graph of another size: no loss to compare
MORE_NODES = 1.1  # a graph larger than that is no longer the same computation
AVERAGED = 16  # a loss is a mean over many elements that were rounded to half precision each by itself
OLDER = "its graph began before the model was called"


@dataclass
class Trial:
    """What the copy must know."""

    factor: float  # of the update: the weights are moved by factor times the step
    moved: list[tuple[Tensor, Tensor]]  # parameters and their values after the step
    nodes: int  # autograd nodes that the training made from the call of the model to backward
    begun: int  # number of the next node at that call
    state: Any  # of Python's random
    report: int  # descriptor


def run_on(trial: Trial) -> None:
    """Prepare this process: when it returns to the user's code it will not come farther than `backward`."""

    def leave(why: str) -> None:
        answer(trial.report, why=why)

    with torch.no_grad():
        for parameter, after in trial.moved:
            here = detach(parameter)
            here.copy_(torch.lerp(here, after, trial.factor))
    watch_engine(trial)
    watch_program(trial, leave)
    same_random(trial.state)
    forbid(leave)


def answer(report: int, **said: Any) -> None:
    """Tell the search, and end without a trace: no atexit, no buffers written, no finalizers."""
    try:
        os.write(report, json.dumps(said).encode())
    finally:
        os._exit(0)


def watch_engine(trial: Trial) -> None:
    """Every way to backward ends in the engine; torch.autograd.grad passes, a penalty may need it before."""
    autocast = autocast_eps()
    original: Callable[..., Any] = vars(torch.autograd)["_engine_run_backward"]

    def engine(outputs: Any, *args: Any, **kwargs: Any) -> Any:
        if not kwargs.get("accumulate_grad"):
            return original(outputs, *args, **kwargs)
        made = sequence_number() - trial.begun
        if made > trial.nodes * MORE_NODES or made * MORE_NODES < trial.nodes:
            answer(trial.report, why=LEFT)
        loss = total(outputs, args[0] if args else ())
        if trial.factor:
            answer(trial.report, loss=loss)
        if any(output.grad_fn is None or began_before(output.grad_fn, trial.begun) for output in outputs):
            answer(trial.report, why=OLDER)
        for parameter, _ in trial.moved:
            parameter.grad = None
        eps = max(autocast, *(torch.finfo(x.dtype).eps for x in (*outputs, *(p for p, _ in trial.moved))))
        slope, along = None, None
        try:
            original(outputs, *args, **kwargs)
            slope, along = slope_of(trial.moved)
        except RuntimeError:
            pass  # the autograd threads of an accelerator: then without a slope
        answer(trial.report, loss=loss, slope=slope, along=along, eps=eps)

    vars(torch.autograd)["_engine_run_backward"] = engine


def autocast_eps() -> float:
    """Rounding of a loss that was computed under the autocast in force."""
    if not torch.is_autocast_enabled("cpu"):
        return 0.0
    return torch.finfo(torch.get_autocast_dtype("cpu")).eps / AVERAGED


def total(outputs: Any, weights: Any) -> float:
    """What backward differentiates: the loss, or several of them, or a tensor against a given gradient."""
    found = 0.0
    for place, output in enumerate(outputs):
        weight = weights[place] if place < len(weights) else None
        values = detach(output).double()
        found += float((values if weight is None else values * detach(weight)).sum())
    return found


def slope_of(moved: list[tuple[Tensor, Tensor]]) -> tuple[float, float]:
    """g . s, and the cosine between the two, from the gradients that stand there and the update."""
    product = gradients = updates = 0.0
    for parameter, after in moved:
        if parameter.grad is None:
            continue
        g, s = parameter.grad.to_dense().double(), (after.double() - detach(parameter).double())
        product += float((g * s).sum())
        gradients += float((g * g).sum())
        updates += float((s * s).sum())
    return product, product / (gradients * updates) ** 0.5 if gradients * updates > 0 else 0.0


def began_before(root: Any, number: int) -> bool:
    """Whether the graph reaches nodes that were made before: the moved weights would not enter them."""
    todo, seen = [root], {root}
    while todo:
        node = todo.pop()
        if node._sequence_nr() < number:  # parameters themselves stand at the end of all numbers
            return True
        for following, _ in node.next_functions:
            if following is not None and following not in seen:
                seen.add(following)
                todo.append(following)
    return False


def watch_program(trial: Trial, leave: Callable[[str], None]) -> None:
    """Leave when an exception reaches a frame of before the fork (it would run `except` and `finally` of the
    training), or when the program went on past the place of `backward`, as a guard that skips the batch does."""
    most = trial.begun + trial.nodes * MORE_NODES

    def local(frame: FrameType, event: str, arg: Any) -> Any:
        raised = event == "exception" and arg[0] is not StopIteration
        ended = event == "return" and frame.f_back is None
        if raised or ended or sequence_number() > most:
            leave(LEFT)
        return local

    frame: FrameType | None = sys._getframe()
    while frame is not None:
        frame.f_trace = local
        frame = frame.f_back
    sys.settrace(lambda *_: None)
