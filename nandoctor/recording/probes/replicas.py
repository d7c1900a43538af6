"""How the ranks train together, and each rank's own gradient before DistributedDataParallel averages it.

The hook on a parameter runs as its gradient is accumulated, before the reducer's own; the optimizer sees the average.
"""

import weakref
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ...trace.schema import BAD, SCALED
from ..looks import looking
from ..names import Model
from ..run import Run
from ..stats import detach, item, plain

WIDER = (torch.float16, torch.bfloat16)
STRATEGIES = {"DistributedDataParallel": "DistributedDataParallel", "FSDPModule": "fully_shard",
              "FullyShardedDataParallel": "FullyShardedDataParallel"}  # fmt: skip


def install(run: Run) -> None:
    known: weakref.WeakSet[Any] = weakref.WeakSet()

    def listen(model: Model) -> None:  # called from within another probe's guard, which it must not fail
        try:
            seen(run, known, model)
        except Exception as error:
            run.recorder.guard.fail("replicas", error)

    run.names.listeners.append(listen)


def seen(run: Run, known: "weakref.WeakSet[Any]", model: Model) -> None:
    """A model is about to be called for the first time."""
    top = model.ref()
    for module in top.modules() if top is not None else ():
        strategy = next((STRATEGIES[c.__name__] for c in type(module).__mro__ if c.__name__ in STRATEGIES), None)
        if strategy is None or module in known:
            continue
        known.add(module)
        run.recorder.said("parallel", strategy=strategy)
        if strategy == "DistributedDataParallel":
            follow(run, module)


def follow(run: Run, replica: nn.Module) -> None:
    run.replicated = True
    recorder = run.recorder
    measure = recorder.guard("replicas", partial(local_gradient, run))

    def accumulated(parameter: Tensor) -> None:
        if looking(recorder) or not run.loss_finite:  # else it costs a call, and no pass over the gradient
            measure(parameter)

    for parameter in replica.parameters():
        if parameter.requires_grad:
            parameter.register_post_accumulate_grad_hook(accumulated)  # type: ignore[no-untyped-call]


def local_gradient(run: Run, parameter: Tensor) -> None:
    """The last of a step counts: with several backwards a step it is the sum so far, as it will be averaged."""
    gradient = plain(parameter.grad)
    if gradient is None:
        return
    recorder = run.recorder
    name, kind = run.names.parameter(parameter)
    subject = recorder.subject(name or "parameter", "parameter", kind, key=f"p{id(parameter)}")
    flags = SCALED if run.scale is not None else 0
    if gradient.device.type != "cpu":
        recorder.add_later("local_gradient", subject, gradient, flags)
        return
    norm = item(torch.linalg.vector_norm(detach(gradient), dtype=torch.float32 if gradient.dtype in WIDER else None))
    recorder.add("local_gradient", subject, (0.0, 0.0, norm), gradient, flags | (0 if norm - norm == 0 else BAD))
