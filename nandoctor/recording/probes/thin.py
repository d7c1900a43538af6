"""What is read at a step that is not recorded whole: the norms of all gradients, in one go."""

import math

import torch
from torch import Tensor

from ...trace.schema import NO_SHAPE, NORM_ONLY, ROW
from ..run import Run
from ..stats import away, kernel, local, norms, plain
from .at_once import flags_of, parameters_of
from .plan import FLOAT32, GRADIENT, GRADIENT_NORM, Plan
from .weights import Weights


class Thin:
    def __init__(self, run: Run, weights: Weights) -> None:
        self.run, self.weights = run, weights

    def gradients(self, optimizer: torch.optim.Optimizer, plan: Plan) -> float | None:
        """Rows of the gradients' norms and of their total, which is returned; NaN where plain kernels cannot read them.

        None where they are on an accelerator: they arrive with the next step.
        """
        run, parameters = self.run, parameters_of(optimizer)
        if len(parameters) != len(plan.rows) or not plan.readable:
            return math.nan
        if kernel is not None:
            flags = flags_of(run) if run.clipped or run.scale is not None else NORM_ONLY
            step = run.recorder.step
            read = kernel.read_rows(plan.gradients, step, flags, parameters, Tensor, torch.float32, True, 0, b"")
            if read is not None:
                run.recorder.packed(read[0])
                return read[1]
        found = [(row, grad) for row, p in zip(plan.rows, parameters, strict=True) if (grad := p.grad) is not None]
        rows = [row for row, _ in found]
        gradients = [local(grad) if plan.wrapped else grad for _, grad in found]
        if not gradients:
            self.run.recorder.value("gradient_norm", plan.total, 0.0)
            return 0.0
        try:
            sizes = torch.stack(torch._foreach_norm(gradients))
        except RuntimeError:  # sparse, or on several devices
            return math.nan
        if away(sizes):
            self._later(sizes, rows, plan.total)
            return None
        return self._written(sizes.tolist(), rows, plan.total)

    def _later(self, sizes: Tensor, rows: list[tuple[int, int, bool]], total_of: int) -> None:
        step, flags = self.run.recorder.step, flags_of(self.run)
        wanted = [place for place, row in enumerate(rows) if row[2]]
        numbers = torch.cat([sizes, torch.linalg.vector_norm(sizes).reshape(1)])[[*wanted, len(rows)]]
        made = [ROW.pack(step, *rows[p][:2], 0, GRADIENT, FLOAT32, flags, 0, 0.0, 0.0, 0.0) for p in wanted]
        made.append(ROW.pack(step, total_of, NO_SHAPE, 0, GRADIENT_NORM, 0, 0, 0, 0.0, 0.0, 0.0))
        self.run.recorder.rows_later(made, torch.nn.functional.pad(numbers.unsqueeze(1), (2, 0)))

    def _written(self, sizes: list[float], rows: list[tuple[int, int, bool]], total_of: int) -> float:
        recorder = self.run.recorder
        total = math.sqrt(sum([norm * norm for norm in sizes]))
        if not math.isfinite(total):
            return math.nan
        step, flags = recorder.step, flags_of(self.run)
        recorder.packed(b"".join([
            ROW.pack(step, subject, shape, 0, GRADIENT, FLOAT32, flags, 0, 0.0, 0.0, norm)
            for (subject, shape, wanted), norm in zip(rows, sizes, strict=True) if wanted
        ]))  # fmt: skip
        recorder.value("gradient_norm", total_of, total)
        return total

    def weights_after(self, optimizer: torch.optim.Optimizer) -> None:
        """Norms alone, after a step that is not recorded whole: for the comparison of replicas."""
        watched = [w for w in self.weights.of(optimizer) if w.wanted]
        held = [(w, value) for w in watched if (value := plain(w.parameter)) is not None]
        for (w, value), norm in zip(held, norms([value for _, value in held]), strict=True):
            self.run.recorder.add("weight", w.weight, (0.0, 0.0, norm), value, NORM_ONLY)

