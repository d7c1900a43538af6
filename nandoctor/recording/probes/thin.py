"""What is read at a step that is not recorded whole: the norms of all gradients, by one kernel."""

import math
import weakref
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...trace.schema import CLIPPED, DTYPES, KIND, NO_SHAPE, NORM_ONLY, SCALED
from ..run import Run
from ..stats import away, local, norms, plain
from .weights import Watched, Weights

GRADIENT, GRADIENT_NORM, FLOAT32 = KIND["parameter_gradient"], KIND["gradient_norm"], DTYPES.index("float32")


@dataclass(frozen=True)
class Plan:
    """What does not change of the rows of an optimizer's gradients."""

    members: list[Watched]
    rows: list[tuple[int, int, bool]]  # for each parameter: subject, shape, is it wanted?
    total: int  # subject of the gradient norm
    readable: bool  # by one kernel
    wrapped: bool  # DTensors


class Thin:
    def __init__(self, run: Run, weights: Weights) -> None:
        self.run, self.weights = run, weights
        self.plans: weakref.WeakKeyDictionary[Any, Plan] = weakref.WeakKeyDictionary()  # by optimizer

    def gradients(self, optimizer: torch.optim.Optimizer, number: int) -> float | None:
        """Rows of the gradients' norms and of their total, which is returned; NaN where plain kernels cannot read them.

        None where they are on an accelerator: they arrive with the next step.
        """
        entry = self.weights.known.get(optimizer)
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        if entry is None or len(parameters) != len(entry[1]):
            return math.nan
        plan = self.plans.get(optimizer)
        if plan is None or plan.members is not entry[1]:
            plan = self.plans[optimizer] = self._plan(entry[1], number)
        if not plan.readable:
            return math.nan
        gradients, rows = [p.grad for p in parameters], plan.rows
        if plan.wrapped:
            gradients = [local(g) if g is not None else None for g in gradients]
        try:
            found = torch.stack(torch._foreach_norm(gradients))
        except TypeError:  # some have no gradient; looked for only then, for this runs at every step
            rows = [row for row, g in zip(rows, gradients, strict=True) if g is not None]
            gradients = [g for g in gradients if g is not None]
            if not gradients:
                self.run.recorder.value("gradient_norm", plan.total, 0.0)
                return 0.0
            try:
                found = torch.stack(torch._foreach_norm(gradients))
            except RuntimeError:
                return math.nan
        except RuntimeError:  # sparse, or on several devices
            return math.nan
        return self._norms(found, rows, plan.total)

    def _norms(self, found: Tensor, rows: list[tuple[int, int, bool]], total_of: int) -> float | None:
        recorder, run = self.run.recorder, self.run
        step = recorder.step
        flags = NORM_ONLY | (CLIPPED if run.clipped else 0)
        flags |= SCALED if run.scale is not None and not run.unscaled else 0
        if away(found):
            wanted = [place for place, row in enumerate(rows) if row[2]]
            numbers = torch.cat([found, torch.linalg.vector_norm(found).reshape(1)])[[*wanted, len(rows)]]
            made = [(step, *rows[p][:2], 0, GRADIENT, FLOAT32, flags, 0, 0.0, 0.0, 0.0) for p in wanted]
            made.append((step, total_of, NO_SHAPE, 0, GRADIENT_NORM, 0, 0, 0, 0.0, 0.0, 0.0))
            recorder.rows_later(made, torch.nn.functional.pad(numbers.unsqueeze(1), (2, 0)))
            return None
        held = found.tolist()
        total = math.sqrt(sum([norm * norm for norm in held]))
        if math.isfinite(total):
            recorder.rows([
                (step, subject, shape, 0, GRADIENT, FLOAT32, flags, 0, 0.0, 0.0, norm)
                for (subject, shape, wanted), norm in zip(rows, held, strict=True) if wanted
            ])  # fmt: skip
            recorder.value("gradient_norm", total_of, total)
        return total if math.isfinite(total) else math.nan

    def _plan(self, watched: list[Watched], number: int) -> Plan:
        recorder = self.run.recorder
        held = [local(w.parameter) for w in watched]
        return Plan(
            members=watched,
            rows=[(w.weight, recorder.shape(p.shape), w.wanted) for w, p in zip(watched, held, strict=True)],
            total=recorder.subject(f"{number}", "optimizer"),
            readable=all(p.dtype is torch.float32 for p in held),
            wrapped=any(w.parameter is not p for w, p in zip(watched, held, strict=True)),
        )

    def weights_after(self, optimizer: torch.optim.Optimizer) -> None:
        """Norms alone, after a step that is not recorded whole: for the comparison of replicas."""
        watched = [w for w in self.weights.of(optimizer) if w.wanted]
        held = [(w, value) for w in watched if (value := plain(w.parameter)) is not None]
        for (w, value), norm in zip(held, norms([value for _, value in held]), strict=True):
            self.run.recorder.add("weight", w.weight, (0.0, 0.0, norm), value, NORM_ONLY)
