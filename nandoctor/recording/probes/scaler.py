"""GradScaler: its calls in order, its scale, and the steps it leaves out."""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from ...trace.schema import SKIPPED
from ..attach import watch_method, wrap_function
from ..autopsy.incidents import Alarms
from ..run import Run
from ..stats import detach, item
from .optimizer import Optimizers


def install(run: Run, alarms: Alarms, optimizers: Optimizers) -> None:
    recorder = run.recorder
    Scaler: Any = getattr(torch.amp, "GradScaler", None) or torch.cuda.amp.GradScaler
    seen_before = {"steps": 0, "finished": 0}

    def called(name: str, scaler: Any) -> None:
        if not scaler.is_enabled():
            return
        scale = _scale(scaler)
        recorder.value("scaler", recorder.subject(name, "call"), scale)
        run.scale = scale
        if name == "update":
            recorder.value("loss_scale", recorder.subject("loss_scale", "call"), scale, second=_found_inf(scaler))
            run.unscaled = False

    for name in ("unscale_", "update"):
        watch_method(Scaler, name, recorder.guard("scaler", partial(called, name)))

    def scaled(result: Any, scaler: Any, outputs: Any, *_: Any) -> None:
        called("scale", scaler)
        if isinstance(result, Tensor) and isinstance(outputs, Tensor) and outputs.numel() == 1:
            run.scaled_losses[id(result)] = item(detach(outputs))

    wrap_function([Scaler], "scale", after=recorder.guard("scaler", scaled))

    def unscale_looked(scaler: Any) -> None:
        run.unscaled = True

    watch_method(Scaler, "_unscale_grads_", recorder.guard("scaler", unscale_looked))

    def step_begins(scaler: Any, *_: Any, **__: Any) -> None:
        called("step", scaler)
        seen_before["steps"] = optimizers.stepped

    def step_ended(_: Any, scaler: Any, *__: Any, **___: Any) -> None:
        if scaler.is_enabled() and optimizers.stepped == seen_before["steps"]:  # it found Inf and left the step out
            recorder.value("loss_scale", recorder.subject("loss_scale", "call"), _scale(scaler), SKIPPED, second=1.0)
            alarms.scaler_skipped()
            optimizers.ends(skipped=True)

    guard = recorder.guard
    wrap_function([Scaler], "step", guard("scaler", step_begins), guard("scaler", step_ended))


def _scale(scaler: Any) -> float:
    held = scaler._scale
    return float(item(detach(held))) if isinstance(held, Tensor) else float(scaler._init_scale)


def _found_inf(scaler: Any) -> float:
    return float(
        sum(
            float(item(detach(value)))
            for state in scaler._per_optimizer_states.values()
            for value in state.get("found_inf_per_device", {}).values()
        )
        > 0
    )
