"""GradScalers of the program: which stage each is in, and mistakes that torch would end the training for."""

import weakref
from typing import Any

import torch
from torch.optim import Optimizer

from ..causes import treatments
from ..recording.attach import watch_method
from ..recording.run import Run
from .hooks import shielded
from .patched import patched_method

Scaler: Any = getattr(torch.amp, "GradScaler", None) or torch.cuda.amp.GradScaler
MISUSE = "amp-misuse"


class Scalers:
    def __init__(self, run: Run, ledger: Any) -> None:
        self.run, self.ledger = run, ledger
        self.known: weakref.WeakSet[Any] = weakref.WeakSet()
        self.said: set[str] = set()
        self.used = False  # a program may make a new one for each step
        self.of_scaled = False  # the last backward was called on a loss that a scaler had scaled
        self.past = 0  # steps past a scaler that had scaled the loss: what they were given was still scaled
        self.scaled: weakref.WeakSet[Any] = weakref.WeakSet()  # scalers whose scale() was ever called

    def install(self, repair: bool) -> None:
        watch_method(Scaler, "scale", shielded(self.run, self._scales))
        if repair:
            patched_method(Scaler, "unscale_", shielded(self.run, self._unscale))
            patched_method(Scaler, "step", shielded(self.run, self._step))

    def stage(self, scaler: Any, optimizer: Optimizer) -> str:
        """READY, UNSCALED or STEPPED."""
        state = dict.get(scaler._per_optimizer_states, id(optimizer))
        return state["stage"].name if state else "READY"

    def holding_scaled(self, optimizer: Optimizer) -> Any:
        """The scaler whose scale still stands in this optimizer's gradients."""
        for scaler in self.scaled:
            if scaler.is_enabled() and scaler._scale is not None and self.stage(scaler, optimizer) == "READY":
                return scaler
        return None

    def stepping(self, optimizer: Optimizer) -> None:
        """Any step of any optimizer is about to be taken, by its scaler or past it."""
        if self.used and self.of_scaled and getattr(optimizer, "grad_scale", None) is None:
            scaler = self.holding_scaled(optimizer)
            self.past += scaler is not None and float(scaler._scale) > 1

    def _scales(self, scaler: Any) -> None:
        if scaler.is_enabled():
            self.used = True
            self.known.add(scaler)
            self.scaled.add(scaler)

    def _unscale(self, scaler: Any) -> Any:
        """Called again before update: the gradients are unscaled already."""
        self._started(scaler)
        plain = Scaler.__dict__["unscale_"].original

        def once(optimizer: Optimizer) -> Any:
            if scaler.is_enabled() and self.stage(scaler, optimizer) == "UNSCALED":
                self._say("unscale_ was called a second time before update(), and did nothing", "unscale-once")
                return None
            return plain.__get__(scaler)(optimizer)

        return once

    def _step(self, scaler: Any) -> Any:
        """Called again although update was not: then it is called now."""
        if not scaler.is_enabled():
            return None  # such a one has not even a state
        self._started(scaler)
        if any(state["stage"].name == "STEPPED" for state in dict.values(scaler._per_optimizer_states)):
            stepped = {key for key, s in dict.items(scaler._per_optimizer_states) if s["stage"].name == "STEPPED"}
            plain = Scaler.__dict__["step"].original

            def updated(optimizer: Optimizer, *args: Any, **kwargs: Any) -> Any:
                if id(optimizer) in stepped:
                    self._say("scaler.update() was missing, and was called before the next step", "update")
                    scaler.update()
                return plain.__get__(scaler)(optimizer, *args, **kwargs)

            return updated
        return None

    def _started(self, scaler: Any) -> None:
        """Never asked to scale: torch would raise. The loss was not scaled, so the scale is 1."""
        if scaler.is_enabled() and scaler._scale is None:
            scaler._init_scale, scaler._growth_interval = 1.0, 2**31 - 1
            scaler._lazy_init_scale_growth_tracker(torch.device(scaler._device))
            self._say("a GradScaler steps, and no loss was scaled by it: its scale is 1 now", "scale")

    def _say(self, what: str, kind: str) -> None:
        if kind not in self.said:
            self.said.add(kind)
            self.ledger.write(
                "once", treatments.AMP_ORDER, MISUSE, what, "torch would raise a RuntimeError here",
                "remove --active", patch={"kind": kind},
            )  # fmt: skip
