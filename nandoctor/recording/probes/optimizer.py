"""The optimizer's step: gradients before it, weights and updates after it, learning rates, hyperparameters."""

import math
import weakref
from itertools import islice
from threading import get_ident
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from ..attach import watch_method
from ..autopsy.incidents import Alarms
from ..frames import user_place
from ..incident import Place
from ..run import Run
from ..stats import detach, norms, plain
from .made_by_step import can_make, made_by_step
from .plan import Plan
from .roster import Roster
from .thin import Thin
from .watched import SAMPLE, Watched
from .weights import Weights

COMPARED_EVERY = 64  # steps: at the same ones on all ranks, whose bursts come at different times
LOOKED_AT = 4  # parameters of an optimizer
NOT_DESCRIBED = ("params", "lr", "initial_lr")  # of a group: they have rows of their own


class Optimizers:
    def __init__(self, run: Run, alarms: Alarms, weights: Weights) -> None:
        self.run, self.alarms, self.weights = run, alarms, weights
        self.thin = Thin(run, weights)
        self.roster = Roster(run.recorder.governor)
        self.stepped = 0  # steps that were seen, for GradScaler.step
        self.gradients_finite = True
        # the optimizer whose step runs, and its parameters
        self.stepping: tuple[weakref.ref[torch.optim.Optimizer] | None, list[Watched]] = None, []
        self.at_once: Plan | None = None  # by which the gradients of the step that runs were read
        # backwards when it last stepped, and its thread, as long as the gradients that it used stand there
        self.used: weakref.WeakKeyDictionary[Any, tuple[int, int]] = weakref.WeakKeyDictionary()

    def before_step(self, optimizer: torch.optim.Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not with_closure(args, kwargs):
            if self.alarms.watch.on:
                self.alarms.watch.ends()
            self.run.reads.asleep = True  # Adam reads the count of its steps once for each parameter
            if not self.run.recorder.governor.whole and self._thin_gradients(optimizer):
                return
        watched, self.at_once = self.weights.of(optimizer), None
        self.stepping = weakref.ref(optimizer), watched
        self._describe(optimizer, watched)
        if not with_closure(args, kwargs):  # else the gradients are made within the step
            self._gradients(optimizer, watched)
            self._never_cleared(optimizer)
        # Lightning's first gradients come within the step
        self.weights.before(optimizer, watched, with_closure(args, kwargs), self.at_once)

    def after_step(self, optimizer: torch.optim.Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        run = self.run
        run.reads.asleep = False
        if not run.recorder.governor.whole:
            if with_closure(args, kwargs):
                self._gradients(optimizer, self.weights.of(optimizer))
            self._rates(optimizer)
            if run.replicated and run.recorder.step % COMPARED_EVERY == 0:
                self.thin.weights_after(optimizer)
            run.unchecked = self.made_late if self.gradients_finite and run.loss_finite else None
            self.stepped += 1
            self.ends()
            return
        (begun, watched), plan = self.stepping, self.at_once
        self.stepping, self.at_once = (None, []), None
        if with_closure(args, kwargs) or begun is None or begun() is not optimizer:  # one that steps inside another
            watched, plan = self.weights.of(optimizer), None
        if with_closure(args, kwargs):
            self._gradients(optimizer, watched)
        self._rates(optimizer)
        run.unchecked = None
        known = self.roster.of(optimizer)
        known.place = known.place or user_place()
        was_bad = self.weights.bad_after_step
        broken = self.weights.after(optimizer, watched, plan)
        if broken and self.gradients_finite and not was_bad and run.loss_finite:
            w = broken[0]
            if made_by_step(optimizer, w):
                self.alarms.update(w.name, w.kind, w.parameter, type(optimizer).__name__)
            else:
                self.alarms.foreign_weight(w.name, w.kind, w.parameter)
        self.used[optimizer] = run.recorder.batch, get_ident()
        self.stepped += 1
        self.ends()

    def _rates(self, optimizer: torch.optim.Optimizer) -> None:
        recorder = self.run.recorder
        known = self.roster.of(optimizer)
        if len(known.rates) != len(optimizer.param_groups):
            known.rates = [
                recorder.subject(f"{known.number}.{place}", "optimizer")
                for place in range(len(optimizer.param_groups))
            ]
        for subject, group in zip(known.rates, optimizer.param_groups, strict=True):
            lr = group.get("lr")
            if lr is not None:
                recorder.value("learning_rate", subject, float(lr))

    def _thin_gradients(self, optimizer: torch.optim.Optimizer) -> bool:
        """All that is read of the gradients at a step that is not recorded whole; False where it takes more."""
        if getattr(optimizer, "grad_scale", None) is not None:
            return False
        known = self.roster.of(optimizer)
        plan = self.weights.plan(optimizer, known)
        total = self.thin.gradients(optimizer, plan) if plan is not None else math.nan
        if total is not None and not math.isfinite(total):
            return False
        self.gradients_finite = True  # as far as is known: recorder.late tells of those on an accelerator
        if total is not None:
            known.norm = total
            self.run.recorder.governor.gradient(total)
        return True

    def made_late(self, parameter: Tensor) -> tuple[str, Place] | None:
        """The optimizer whose last step can have made this weight bad, although its gradients were finite."""
        for optimizer, known in self.roster.alive():
            for group in optimizer.param_groups:
                if any(p is parameter for p in group["params"]):
                    if can_make(optimizer, group, parameter, known.norm):
                        return type(optimizer).__name__, known.place or Place()
        return None

    def thinned(self, whole: bool) -> None:
        """The steps to come are recorded whole, or the last one was: what was kept of a step is not of the next."""
        if not whole:
            self.used.clear()
            for known in self.roster:
                known.stale = 0
            self.weights.forget()

    def ends(self, skipped: bool = False) -> None:
        run = self.run
        run.clipped = False
        run.foreign = None
        run.checked_gradients = True
        alarms = self.alarms
        if alarms.watch.on:
            alarms.watch.forget()
        run.recorder.step_ends(skipped)
        if alarms.watch.on or alarms.lines.wanted():
            alarms.ahead()

    def count_alone(self, *_: Any) -> None:
        """This probe has failed: steps are still counted, and what waits is still written."""
        run = self.run
        run.clipped, run.foreign, run.checked_gradients = False, None, True
        run.recorder.step_ends()

    def _gradients(self, optimizer: torch.optim.Optimizer, watched: list[Watched]) -> None:
        run = self.run
        scale = getattr(optimizer, "grad_scale", None)  # fused optimizers unscale inside their kernel
        found_inf = getattr(optimizer, "found_inf", None)
        known = self.roster.of(optimizer)
        if scale is None:
            norm = self.weights.gradients_at_once(optimizer, known, watched)
            if norm is not None:
                self.gradients_finite, self.at_once = True, known.plan
                run.recorder.governor.gradient(norm)
                return
        unscaling = float(scale) if scale is not None else None
        total, finite = self.weights.gradients(optimizer, self.number(optimizer), watched, unscaling)
        self.gradients_finite = finite
        run.recorder.governor.gradient(total)
        run.recorder.value(
            "gradient_norm", run.recorder.subject(f"{self.number(optimizer)}", "optimizer"), total
        )
        if not finite and not (found_inf is not None and float(found_inf) > 0):
            self.alarms.gradients([(w.name, w.parameter) for w in watched])

    def backward_begins(self) -> None:
        """Whose gradients stand there still, although a step has used them?"""
        for reference in self.used.keyrefs():  # a list: another thread may train as well, and clear its own meanwhile
            optimizer = reference()
            if optimizer is None or self.used.get(optimizer, (0, 0))[1] != get_ident():
                continue
            entry = self.weights.known.get(optimizer)
            if entry is None or cleared(entry[1]):
                self.used.pop(optimizer, None)

    def _never_cleared(self, optimizer: torch.optim.Optimizer) -> None:
        run, known = self.run, self.roster.of(optimizer)
        if self.used.get(optimizer, (run.recorder.batch, 0))[0] == run.recorder.batch:
            known.stale = 0
            return
        known.stale += 1
        subject = run.recorder.subject(f"{known.number}", "optimizer")
        run.recorder.value("stale_gradient", subject, float(known.stale))

    def number(self, optimizer: torch.optim.Optimizer) -> int:
        return self.roster.of(optimizer).number

    def _describe(self, optimizer: torch.optim.Optimizer, watched: list[Watched]) -> None:
        known = self.roster.of(optimizer)
        settings = [
            value for group in optimizer.param_groups for key, value in group.items() if key not in NOT_DESCRIBED
        ]
        seen = self.weights.version, settings
        if seen == known.seen and not any([isinstance(value, Tensor) for value in settings]):
            return
        known.seen = seen
        names = iter(watched)
        groups = []
        for group in optimizer.param_groups:
            described: dict[str, Any] = {
                key: _plain(value) for key, value in group.items() if key not in NOT_DESCRIBED
            }
            described["parameters"] = [next(names).name for _ in group["params"]]
            groups.append(described)
        if known.said != groups:
            known.said = groups
            self.run.recorder.note(
                "optimizer", id=known.number, name=type(optimizer).__name__,
                **{"class": f"{type(optimizer).__module__}.{type(optimizer).__qualname__}"},
                step=self.run.recorder.step,
                groups=[
                    {"lr": _plain(group.get("lr")), **described}
                    for group, described in zip(optimizer.param_groups, groups, strict=True)
                ],
            )  # fmt: skip

    def zero_grad(self, _: Any) -> None:
        """zero_grad is looked up: gradients that no step has used are about to vanish."""
        run = self.run
        run.recorder.value("zero_grad", run.recorder.call("zero_grad"), 1.0)
        if not run.checked_gradients and run.loss_finite:
            watched = self.weights.alive()
            if not watched:
                return
            _, finite = self.weights.gradients(None, 0, watched, None)
            if not finite:
                self.alarms.gradients([(w.name, w.parameter) for w in watched])
            run.checked_gradients = True


def install(run: Run, alarms: Alarms, weights: Weights) -> Optimizers:
    optimizers = Optimizers(run, alarms, weights)
    run.recorder.governor.changed.append(optimizers.thinned)
    guard = run.recorder.guard
    register_optimizer_step_pre_hook(guard("optimizer", optimizers.before_step))
    register_optimizer_step_post_hook(guard("optimizer", optimizers.after_step, optimizers.count_alone))
    watch_method(torch.optim.Optimizer, "add_param_group", guard("linemap", lambda _: alarms.ahead()))
    seen = guard("zero_grad", optimizers.zero_grad)
    watch_method(torch.optim.Optimizer, "zero_grad", seen)
    watch_method(torch.nn.Module, "zero_grad", seen)
    return optimizers


def cleared(watched: list[Watched]) -> bool:
    """None or zeros where the first parameters' gradients were; few are enough, they are cleared together."""
    standing = (grad for w in watched if (p := w.ref()) is not None and (grad := p.grad) is not None)
    gradients = [g for grad in islice(standing, LOOKED_AT) if (g := plain(grad)) is not None]
    return not gradients or not any(norms([detach(g).reshape(-1)[:SAMPLE] for g in gradients]))


def with_closure(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    if not kwargs and len(args) == 1 and isinstance(args[0], torch.optim.Optimizer):
        return False  # nearly always
    return kwargs.get("closure") is not None or any(callable(value) for value in args[1:2] or args[:1])


def _plain(value: Any) -> Any:
    if isinstance(value, Tensor):
        return float(value) if value.numel() == 1 else None
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value if isinstance(value, (int, float, bool, str)) or value is None else str(value)

