"""The doctor's rounds: what happens before and after each step of each optimizer, and at each loss."""

import math
import sys
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from ..causes import treatments
from ..recording.attach import watch_method, wrap_function
from ..recording.probes.optimizer import with_closure
from ..recording.run import Run
from ..recording.stats import detach, item, measurable
from ..recording.tracebacks import OURS
from . import batchnorm, distributions, refusals
from .applied import Gradients
from .checks import Checks
from .doctor import Doctor
from .finite import bad_among, mend_, norms
from .hooks import shielded
from .ledger import Ledger, say
from .mode import rest, wake
from .scalers import Scalers
from .window import Window


def begin(run: Run) -> "Rounds":
    """Active mode starts. Called before the recorder's own hooks are installed; `follow` after them."""
    settings = run.recorder.settings
    window = Window()
    window.note("header", settings.header())
    run.recorder.tap = window
    doctor = Doctor(
        run, settings.policy, frozenset(settings.treatments), settings.max_actions, settings.ladder == "documents",
        window, Ledger(run.recorder),
    )  # fmt: skip
    rounds = Rounds(run, doctor)
    clips = [torch.nn.utils, torch.nn.utils.clip_grad]  # before the recording puts its own around: it looks first
    for name in ("clip_grad_norm_", "clip_grad_value_"):
        wrap_function(clips, name, before=shielded(run, rounds.clipping))
    register_optimizer_step_pre_hook(shielded(run, rounds.early))
    return rounds


class Rounds:
    def __init__(self, run: Run, doctor: Doctor) -> None:
        self.run, self.doctor = run, doctor
        self.rates: list[tuple[dict[str, Any], Any, Any]] = []  # group, its lr, what stood there meanwhile
        self.held: list[tuple[Tensor, Tensor]] = []  # gradients of a step that is left out
        self.checks: Checks | None = None
        self.bad_clipped = 0  # entries that were not finite, and became 0 before the script clipped
        self.poisoned = False  # the forward pass of this step was not finite
        self.finite_rates: dict[int, float] = {}  # by group: the last lr that was finite

    def follow(self, alarms: Any) -> None:
        run, doctor = self.run, self.doctor
        doctor.alarms = alarms
        handle = register_module_forward_pre_hook(self.entering)
        OURS.add(handle.id)
        register_optimizer_step_pre_hook(shielded(run, self.before))
        register_optimizer_step_post_hook(self.after_step)
        watch_method(torch.Tensor, "backward", shielded(run, self.loss))
        run.scalers = Scalers(run, doctor.ledger)
        touches = doctor.policy != "advise"
        run.scalers.install(touches and self.allowed(treatments.AMP_ORDER))
        if touches and self.allowed(treatments.BATCHNORM):
            batchnorm.never_one(run, doctor.ledger)
        if touches and self.allowed(treatments.DATA):
            distributions.never_nan(run, doctor.ledger)
            refusals.never_refused(run, doctor.ledger)
        if touches and self.allowed(treatments.NONFINITE_GRADIENTS):
            self.checks = Checks(run, doctor)
            self.checks.install()

    def allowed(self, name: str) -> bool:
        return not self.doctor.allowed or name in self.doctor.allowed

    def entering(self, module: Any, args: Any) -> None:
        """Every module comes by: no more than a glance."""
        doctor = self.doctor
        if doctor.window.incidents != doctor.incidents and len(self.run.thread.stack) <= 1 and torch.is_grad_enabled():
            shielded(self.run, doctor.model_begins)()

    # --- hooks -----------------------------------------------------------------------------------------------
    def loss(self, loss: Tensor) -> None:
        if loss.numel() == 1 and measurable(loss):
            value = self.run.scaled_losses.get(id(loss))
            if self.run.scalers is not None:
                self.run.scalers.of_scaled = value is not None
            value = item(detach(loss)) if value is None else value
            self.doctor.loss_seen(value)
            if self.checks is not None and math.isfinite(value):
                self.checks.finite = value
        if self.checks is not None and torch.is_anomaly_enabled() and torch.is_anomaly_check_nan_enabled():
            torch.set_anomaly_enabled(True, False)  # it would raise in backward; the recording names the operation

    def early(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self.run.scalers is not None:
            self.run.scalers.stepping(optimizer)
        for call in self.doctor.each("early"):
            call(optimizer)

    def clipping(self, parameters: Any, *_: Any, **__: Any) -> None:
        """One entry that is not finite would make NaN of all others, or raise."""
        if self.checks is None or self.run.scalers is not None and self.run.scalers.used:
            return  # a GradScaler has to see what overflowed
        given = [parameters] if isinstance(parameters, Tensor) else parameters
        if not isinstance(given, (list, tuple)):  # model.parameters() can be walked through once, and that is torch's
            tops = [top for model in self.run.names.models if (top := model.ref()) is not None]
            given = [p for top in tops for p in top.parameters()]
        given = [p for p in given if isinstance(p, Tensor)]
        found = [p.grad for p in given if p.grad is not None]
        places = bad_among(found)
        if places:
            self.doctor.alarms.gradients([(self.run.names.parameter(p)[0], p) for p in given if p.grad is not None])
        self.bad_clipped += sum(mend_(found[place]) for place in places)

    def before(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        wake(self.run)  # the last step may have raised
        doctor = self.doctor
        if doctor.meet(optimizer) and doctor.policy != "advise" and several_processes():
            doctor.policy = "advise"  # two processes that decide differently would part for good
            say("nandoctor: several processes train together: active mode only advises here")
        found_inf = getattr(optimizer, "found_inf", None)
        if found_inf is not None and float(found_inf) > 0:
            if (self.run.scale or math.inf) <= 1:
                self.run.checked_gradients = False
                doctor.alarms.scaler_skipped()
            return  # the kernel will leave this step out by itself
        if with_closure(args, kwargs):
            doctor.before_step(optimizer, None)
            if doctor.policy != "advise":
                doctor.safety.before(optimizer, None)
                self._scale_rates(optimizer)
            return
        found = gradients_of(optimizer, doctor.loss)
        found.finite = found.finite and not self.bad_clipped
        self.poisoned = not found.finite or found.loss is not None and not math.isfinite(found.loss)
        out = doctor.before_step(optimizer, found)
        if doctor.policy == "advise":
            return
        if not out:
            batchnorm.weigh(self.run, found)
            out = any([call(found) for call in doctor.each("gradients")])
        if not out and not found.finite:
            out = not self._repair(found)
        self.bad_clipped = 0
        if out:
            self._leave_out(found)
        else:
            doctor.safety.before(optimizer, found)
        self._scale_rates(optimizer)
        if type(optimizer).__module__.startswith("torch."):
            rest(self.run)

    def after_step(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """What was put in place for one step goes, whatever happened to us meanwhile."""
        wake(self.run)
        for group, lr, stood in self.rates:
            if group.get("lr") is stood or group.get("lr") == stood:
                group["lr"] = lr
        self.rates.clear()
        for parameter, gradient in self.held:
            parameter.grad = gradient
        self.held.clear()
        self.safe_after(optimizer)

    def safe_after(self, optimizer: Optimizer) -> None:
        shielded(self.run, self._after)(optimizer)

    def _after(self, optimizer: Optimizer) -> None:
        doctor = self.doctor
        for call in doctor.each("after"):
            call(optimizer)
        if doctor.policy != "advise":
            cause = doctor.trials[-1].cause if doctor.trials else ""

            def said(what: str) -> None:
                doctor.ledger.write("once", treatments.NONFINITE_WEIGHTS, cause, what, "a weight must stay finite")

            doctor.safety.after(optimizer, said)
            if self.poisoned:
                doctor.safety.buffers(doctor.models(), said)

    # --- what a step is given --------------------------------------------------------------------------------
    def _repair(self, found: Gradients) -> bool:
        """Entries that are not finite become 0, if enough of the gradient is left to be one."""
        doctor = self.doctor
        cause = doctor.trials[-1].cause if doctor.trials else ""
        hopeless = found.loss is not None and not math.isfinite(found.loss)
        if doctor.policy == "skip" or hopeless or not self.allowed(treatments.NONFINITE_GRADIENTS):
            why = "the loss is not finite" if hopeless else "its gradients are not finite"
            doctor.ledger.write("once", treatments.NONFINITE_GRADIENTS, cause, "this update is left out", why)
            return False
        count = sum(mend_(gradient) for gradient in found.tensors()) + self.bad_clipped
        what = f"{count} entries of gradients that were not finite became 0"
        why = "the loss is finite, the batch is kept"
        doctor.ledger.write("once", treatments.NONFINITE_GRADIENTS, cause, what, why)
        found.norms = norms(found.tensors())
        found.total, found.finite = math.sqrt(sum(norm * norm for norm in found.norms)), True
        return True

    def _leave_out(self, found: Gradients) -> None:
        """torch's optimizers leave alone what has no gradient."""
        for parameter in found.parameters:
            gradient = parameter.grad
            if gradient is not None:
                mend_(gradient)  # a script that never clears them must not meet this NaN again
                self.held.append((parameter, gradient))
                parameter.grad = None

    def _scale_rates(self, optimizer: Optimizer) -> None:
        whole = math.prod(call(optimizer) for call in self.doctor.each("factor"))
        for place, group in enumerate(optimizer.param_groups):
            factor = whole * math.prod(call(optimizer, place) for call in self.doctor.each("rate"))
            lr = group.get("lr")
            if lr is None or isinstance(lr, Tensor) and lr.device.type != "cpu":
                continue
            finite = math.isfinite(float(lr))
            if finite:
                self.finite_rates[id(group)] = float(lr)
            if finite and factor == 1.0:
                continue
            new: Any = (float(lr) if finite else self.finite_rates.get(id(group), 0.0)) * factor
            if isinstance(lr, Tensor):
                new = torch.full_like(lr, new)
            self.rates.append((group, lr, new))
            group["lr"] = new


def several_processes() -> bool:
    distributed: Any = sys.modules.get("torch.distributed")
    return distributed is not None and distributed.is_available() and distributed.is_initialized() and (
        distributed.get_world_size() > 1
    )


def gradients_of(optimizer: Optimizer, loss: float | None) -> Gradients:
    parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    tensors = [p.grad for p in parameters if p.grad is not None]
    sizes = norms(tensors)
    scale = getattr(optimizer, "grad_scale", None)  # fused optimizers unscale inside their kernel
    if scale is not None:
        sizes = [size / float(scale) for size in sizes]
    total = math.sqrt(sum(size * size for size in sizes))
    finite = math.isfinite(total)
    if not finite:
        finite = not bad_among(tensors)
    return Gradients(optimizer, parameters, sizes, total, finite, loss)
