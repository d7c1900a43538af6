"""Weights and updates, at each optimizer step: norms by foreach kernels, updates from a sample of elements."""

import math
import weakref
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ...trace.schema import BAD, CLIPPED, NORM_ONLY, SAMPLED, SCALED
from ..looks import looking
from ..names import class_name
from ..run import Run
from ..samples import Samples, differences, gather, sizes
from ..stats import SMALLEST_NORMAL, detach, ends, flushed, is_bad, item, local, measurable, measure, norms, plain
from . import at_once
from .at_once import parameters_of
from .dynamics import Dynamics, epsilons
from .plan import Plan, plan_of
from .roster import Known
from .units import Units
from .watched import SAMPLE, Watched

ROUNDING = 1e-5  # the same elements summed in another order
FAR_OFF = 5.0  # times its norm


@dataclass
class Weights:
    run: Run
    known: "weakref.WeakKeyDictionary[Any, tuple[tuple[int, ...], list[Watched]]]" = field(
        default_factory=weakref.WeakKeyDictionary
    )  # by optimizer
    version: int = 0  # of `known`
    bad_after_step: bool = False
    taken: list[Samples] = field(default_factory=list)  # of the weights before the step that runs, one for each device
    left: "weakref.WeakKeyDictionary[Any, list[Samples]]" = field(
        default_factory=weakref.WeakKeyDictionary
    )  # by optimizer: of the weights after its last step

    def __post_init__(self) -> None:
        self.dynamics = Dynamics(self.run)
        self.units = Units(self.run)

    def of(self, optimizer: torch.optim.Optimizer) -> list[Watched]:
        """The parameters of an optimizer with their names; found again when its groups change."""
        parameters = parameters_of(optimizer)
        key = tuple(map(id, parameters))
        entry = self.known.get(optimizer)
        if entry is None or entry[0] != key:
            self.version += 1
            entry = self.known[optimizer] = (key, [self._watch(p, n) for n, p in enumerate(parameters)])
        return entry[1]

    def alive(self) -> list[Watched]:
        """The parameters of all optimizers seen so far."""
        return [w for _, members in self.known.values() for w in members if w.ref() is not None]

    def _watch(self, parameter: Tensor, number: int) -> Watched:
        from ..autopsy.variables import name_of

        name, kind = self.run.names.parameter(parameter)
        name = name or name_of(parameter) or f"param.{number}"
        subject = self.run.recorder.subject(name, "parameter", kind, key=f"p{id(parameter)}")
        stride = max(1, local(parameter).numel() // SAMPLE)
        return Watched(weakref.ref(parameter), name, kind, subject, self.run.recorder.settings.wants(name), stride)

    def first_look(self) -> None:
        """Before the first backward: every parameter of every known model as it was initialised."""
        run = self.run
        for model in run.names.models:
            top = model.ref()
            if top is None or model.looked or not model.parameters:
                continue
            model.looked = True
            for path, module in run.names.modules(top):
                for name, value in module._parameters.items():
                    held = plain(value)
                    if value is None or held is None:
                        continue
                    full = model.prefixed(f"{path}.{name}" if path else name)
                    if not run.recorder.settings.wants(full):
                        continue
                    subject = run.recorder.subject(full, "parameter", class_name(module), key=f"p{id(value)}")
                    stats = measure(held)
                    run.recorder.add("weight", subject, stats, held, BAD if stats.bad else 0)

    def forget(self) -> None:
        """Steps pass that are not recorded whole: what was kept for the next one is out of date."""
        for w in self.alive():
            w.gradient = None
        self.taken = []
        self.left.clear()
        self.dynamics.kept.clear()

    def plan(self, optimizer: torch.optim.Optimizer, known: Known, anew: bool = False) -> Plan | None:
        """How the parameters are read at once; None where no step of this optimizer has been recorded whole.

        anew: others of them may have gradients now.
        """
        if anew or known.plan is None or known.plan.version != self.version:
            entry = self.known.get(optimizer)
            if entry is None:
                return None
            present = tuple([w.parameter.grad is not None for w in entry[1]])
            if known.plan is None or (known.plan.version, known.plan.present) != (self.version, present):
                known.plan = plan_of(self.run.recorder, entry[1], known.number, self.version, present)
        return known.plan

    # --- around a step ---------------------------------------------------------------------------------------
    def gradients_at_once(self, optimizer: torch.optim.Optimizer, known: Known, watched: list[Watched]) -> float | None:
        """Rows for all gradients, and their total norm; None, and no row, where they must be read one by one."""
        run, parameters = self.run, parameters_of(optimizer)
        plan = self.plan(optimizer, known)
        read = at_once.gradients(run, plan, parameters) if plan is not None else None
        if read is None:
            other = self.plan(optimizer, known, anew=True)
            if other is None or other is plan:  # what stopped it once would again
                return None
            read = at_once.gradients(run, other, parameters)
        if read is None:
            return None
        total, samples = read
        scale = run.scale if run.scale and not run.unscaled else 1.0
        self.dynamics.gradients(optimizer, known.number, samples, [], scale)
        if looking(run.recorder):
            for w, part in zip(self._sampled_of(samples, watched), samples.parts(), strict=True):
                w.gradient = part
                if (grad := w.parameter.grad) is not None:
                    self.units.gradient(w.weight, grad)
        return total

    @staticmethod
    def _sampled_of(samples: Samples, watched: list[Watched]) -> list[Watched]:
        by_id = {id(w): w for w in watched}
        return [by_id[key] for key in samples.keys]

    def gradients(
        self, optimizer: torch.optim.Optimizer | None, number: int, watched: list[Watched], scale: float | None
    ) -> tuple[float, bool]:
        """Rows for all gradients; (total norm, all finite)."""
        run, recorder = self.run, self.run.recorder
        pairs = [(w, grad) for w in watched if (grad := plain(w.parameter.grad)) is not None]
        flags = NORM_ONLY | (CLIPPED if run.clipped else 0)
        scaled = run.scale is not None and not scale and not run.unscaled
        look = looking(recorder)
        total = 0.0
        bad = False
        usable = []
        for (w, grad), norm in zip(pairs, norms([g for _, g in pairs]), strict=True):
            norm = norm / scale if scale else norm
            total += norm * norm
            broken = not math.isfinite(norm) and is_bad(grad)
            bad = bad or broken
            if w.wanted:
                own = flags | (BAD if broken else 0) | (SCALED if scaled else 0)
                low, high = item(ends(grad)[0]) if broken else 0.0, item(ends(grad)[1]) if broken else 0.0
                recorder.add("parameter_gradient", w.weight, (low, high, norm), grad, own)
            if broken:
                recorder.nonfinite_detail(w.weight, grad)
            w.gradient = None
            if not broken and w.wanted and grad.shape == local(w.parameter).shape:
                usable.append((w, grad))
        if not bad and optimizer is not None:
            self._sampled(optimizer, number, usable, scale or (run.scale if scaled and run.scale else 1.0), look)
        return math.sqrt(total) if math.isfinite(total) else total, not bad

    def _sampled(
        self, optimizer: torch.optim.Optimizer, number: int, usable: list[tuple[Watched, Tensor]], scale: float,
        look: bool,
    ) -> None:  # fmt: skip
        found = gather([(id(w), grad, w.stride) for w, grad in usable])
        by_id = {id(w): (w, grad) for w, grad in usable}
        for samples in found[:1]:
            self.dynamics.gradients(optimizer, number, samples, [by_id[key][0].stride for key in samples.keys], scale)
        for samples in found if look else []:
            for key, part in zip(samples.keys, samples.parts(), strict=True):
                w, grad = by_id[key]
                w.gradient = part
                self._look_at_gradient(w, grad)

    def _look_at_gradient(self, w: Watched, gradient: Tensor) -> None:
        self.units.gradient(w.weight, gradient)
        if gradient.dtype in SMALLEST_NORMAL:
            sample = detach(gradient).reshape(-1)[:: w.stride]
            self.run.recorder.add("flush", w.weight, flushed(sample), gradient)

    def before(
        self, optimizer: torch.optim.Optimizer, watched: list[Watched], closure: bool = False, plan: Plan | None = None
    ) -> None:
        """Keep a sample of each parameter, and see whether anybody has written to it since the last step.

        plan: of the gradients that were read at once.
        """
        read = at_once.weights(plan, parameters_of(optimizer)) if plan is not None else None
        if read is not None:
            self.taken = [read]
        else:
            self.taken = gather([
                (id(w), own, w.stride) for w in watched
                if w.wanted and (closure or w.parameter.grad is not None) and measurable(own := local(w.parameter))
            ])  # fmt: skip
        for taken, left in zip(self.taken, self.left.get(optimizer, ()), strict=False):
            if taken.like(left) and not torch.equal(taken.vector, left.vector):
                self._written_to(taken, left, {id(w): w for w in watched})

    def _written_to(self, taken: Samples, left: Samples, by_id: dict[int, Watched]) -> None:
        for key, norm, before in zip(taken.keys, sizes(taken), sizes(left), strict=True):
            change = abs(norm - before) / before if before else norm
            # a checkpoint that is loaded changes weights by right, but not many times over
            if change > (ROUNDING if self.run.foreign is None else FAR_OFF):
                self.run.recorder.value("foreign_write", by_id[key].weight, change)

    def after(
        self, optimizer: torch.optim.Optimizer, watched: list[Watched], plan: Plan | None = None
    ) -> list[Watched]:
        """Rows for weights and updates; returns the parameters that are not finite now."""
        recorder = self.run.recorder
        look = looking(recorder)
        if plan is not None and len(self.taken) == 1 and self._after_at_once(optimizer, plan, watched, look):
            return []
        held = [(w, value) for w in watched if (value := plain(w.parameter)) is not None]
        broken = []
        for (w, value), norm in zip(held, norms([value for _, value in held]), strict=True):
            bad = not math.isfinite(norm) and is_bad(w.parameter)
            if bad:
                broken.append(w)
            if w.wanted:
                low, high = (item(end) for end in ends(value)) if bad else (0.0, 0.0)
                recorder.add("weight", w.weight, (low, high, norm), value, NORM_ONLY | (BAD if bad else 0))
            if bad and not self.bad_after_step:
                recorder.nonfinite_detail(w.weight, value)
        self._updates(optimizer, {id(w): w for w, _ in held}, {id(w) for w in broken}, look)
        self.bad_after_step = bool(broken)
        return broken

    def _after_at_once(
        self, optimizer: torch.optim.Optimizer, plan: Plan, watched: list[Watched], look: bool
    ) -> bool:
        before = self.taken[0]
        read = at_once.updates(self.run, plan, parameters_of(optimizer), before, look)
        if read is None:
            return False
        after, moved = read
        self.taken, self.left[optimizer], self.bad_after_step = [], [after], False
        self.dynamics.moved(optimizer, before, moved)
        if look:
            eps = epsilons(optimizer)
            for w, by in zip(self._sampled_of(before, watched), torch.split(moved, list(before.lengths)), strict=True):
                if w.gradient is not None:
                    own_eps = eps.get(id(w.parameter))
                    self.dynamics.look(optimizer, w.parameter, w.weight, w.gradient, by, w.stride, own_eps)
        return True

    def _updates(
        self, optimizer: torch.optim.Optimizer, by_id: dict[int, Watched], broken: set[int], look: bool
    ) -> None:
        taken, self.taken = self.taken, []
        self.left[optimizer] = left = []
        for before in taken:
            if not all([key in by_id for key in before.keys]):
                continue
            for after in gather([(key, local(by_id[key].parameter), by_id[key].stride) for key in before.keys]):
                if after.like(before):
                    left.append(after)
                    self._update(optimizer, by_id, broken, look, before, after)

    def _update(
        self, optimizer: torch.optim.Optimizer, by_id: dict[int, Watched], broken: set[int], look: bool,
        before: Samples, after: Samples,
    ) -> None:  # fmt: skip
        recorder = self.run.recorder
        changes = differences(before, after, look)
        for key, length, (low, high, norm) in zip(before.keys, before.lengths, changes, strict=True):
            w = by_id[key]
            own = local(w.parameter)
            # an update that is not finite shows in the weight
            share = math.sqrt(own.numel() / max(length, 1))
            flags = (SAMPLED if w.stride > 1 else 0) | (0 if math.isfinite(norm) else BAD)
            flags |= 0 if look else NORM_ONLY
            row = (low, high, norm * share) if look else (0.0, 0.0, norm * share)
            recorder.add("update", w.weight, row, own, flags)
        if broken:
            for key, part in zip(before.keys, before.parts(), strict=True):
                if key in broken:
                    by_id[key].sampled = part
            return
        self.dynamics.moved(optimizer, before, after.vector - before.vector)
        if look:
            eps = epsilons(optimizer)
            for key, was, now in zip(before.keys, before.parts(), after.parts(), strict=True):
                w = by_id[key]
                if w.gradient is not None:
                    own_eps = eps.get(id(w.parameter))
                    self.dynamics.look(optimizer, w.parameter, w.weight, w.gradient, now - was, w.stride, own_eps)
