"""Gradient clipping by torch's functions: max_norm, and the norm that was there before."""

import math
from typing import Any

import torch
from torch import Tensor

from ...trace.schema import SCALED
from ..attach import wrap_function
from ..autopsy.incidents import Alarms
from ..run import Run
from ..stats import is_bad, local
from .weights import Weights


def install(run: Run, alarms: Alarms, weights: Weights) -> None:
    recorder = run.recorder

    def scaled() -> int:
        return SCALED if run.scale is not None and not run.unscaled else 0

    def by_norm(result: Any, parameters: Any, max_norm: float = 0.0, *_: Any, **__: Any) -> None:
        spread = isinstance(result, Tensor) and local(result) is not result
        if spread:  # over the ranks: to add it up would be a collective of ours
            norm = float("nan")
            recorder.unseen("clip_grad_norm_ gave a norm that is spread over the ranks: it is not recorded")
        else:
            norm = float(result.detach()) if isinstance(result, Tensor) else float(result)
        recorder.value("clip", recorder.subject("clip_grad_norm_", "call"), norm, scaled(), second=float(max_norm))
        run.clipped = True
        if not math.isfinite(norm) and not spread and run.scale is None:
            watched = weights.alive()
            if any(is_bad(w.parameter.grad) for w in watched):
                alarms.gradients([(w.name, w.parameter) for w in watched])

    def by_value(_: Any, parameters: Any, clip_value: float = 0.0, *__: Any, **___: Any) -> None:
        subject = recorder.subject("clip_grad_value_", "call")
        recorder.value("clip", subject, float("nan"), scaled(), second=float(clip_value))
        run.clipped = True

    places = [torch.nn.utils, torch.nn.utils.clip_grad]
    wrap_function(places, "clip_grad_norm_", after=recorder.guard("clip", by_norm))
    wrap_function(places, "clip_grad_value_", after=recorder.guard("clip", by_value))
