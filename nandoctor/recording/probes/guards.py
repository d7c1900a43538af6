"""A guard in the user's loop looks at the loss before backward: if torch.isnan(loss): continue.

Then backward is never called, and what the graph knows must be read now.
"""

import math
import sys
from functools import partial
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from ..attach import FRAMES, HERE, watch_lookup, watch_method
from ..autopsy import doubts, variables
from ..autopsy.incidents import Alarms
from ..frames import is_user_code, user_place
from ..run import Run
from ..stats import detach, is_bad, item, measurable

LOOKS = ("isnan", "isfinite", "isinf", "__float__", "tolist", "numpy")  # and item, and detach
FUNCTIONS = ("isnan", "isfinite", "isinf")


def install(run: Run, alarms: Alarms) -> None:
    guard = run.recorder.guard

    def looked_at(tensor: Tensor, waits: bool = True) -> None:
        if not tensor.is_floating_point() or tensor.requires_grad and tensor.grad_fn is None:
            return
        if not measurable(tensor) or tensor.numel() != 1:
            return
        if not waits and not tensor.is_cpu:
            return  # would wait for the accelerator
        if math.isfinite(item(detach(tensor))):
            return
        if tensor.grad_fn is not None:
            alarms.non_finite_loss(tensor)
        else:
            for loss in variables.left_behind()[:1]:
                alarms.non_finite_loss(loss)
            if run.mode == "eval":
                alarms.evaluated_value(tensor, user_place())

    def function_looked_up() -> None:
        frame = sys._getframe(4)
        if is_user_code(frame.f_code):
            for loss in variables.scalars_with_graph(frame)[:1]:
                alarms.non_finite_loss(loss)
            outputs = [output for reference in run.bad_outputs if (output := reference()) is not None]
            if not run.recorder.governor.whole:  # no hook has seen what the model returned
                outputs = variables.bad_with_graph(frame)
            elif not outputs:
                doubts.doubt(alarms, variables.bad_with_graph(frame))
            for output in outputs:
                alarms.bad_output(output)

    def asked_about(tensor: Tensor) -> None:
        if tensor.is_floating_point() and tensor.grad_fn is not None and measurable(tensor) and tensor.numel() > 1:
            if run.recorder.governor.whole and _asked_by_user() and is_bad(tensor):
                doubts.doubt(alarms, [tensor])

    guarded = guard("guards", looked_at)
    asked = guard("guards", asked_about)

    def ask(tensor: Tensor) -> None:
        guarded(tensor)
        asked(tensor)

    for name in LOOKS:
        watch_method(torch.Tensor, name, ask if name in FUNCTIONS else guarded)
    watch_method(torch.Tensor, "detach", guard("guards", partial(looked_at, waits=False)))
    run.reads = watch_method(torch.Tensor, "item", guarded)
    looked_up = guard("guards", function_looked_up)

    def read(name: str) -> Any:
        looked_up()
        return run.checks(name, sys._getframe(2)) if run.checks is not None else None

    FRAMES.add(read.__code__)
    for name in FUNCTIONS:
        watch_lookup(torch, (name,), partial(read, name))


def _asked_by_user() -> bool:
    """Whether the innermost frame that is not ours is the user's: torch asks such things for itself, too."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(HERE):
        frame = frame.f_back
    return frame is not None and is_user_code(frame.f_code)
