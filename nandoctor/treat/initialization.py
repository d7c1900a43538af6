"""First weights that are far too large or too small, or not finite, are brought to the scale that their layer needs."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ..causes import treatments
from ..recording.stats import detach
from .applied import Applied, Case
from .finite import mend_
from .snapshots import parameters_of

EARLY = 120  # steps: later it is no initialisation any more
LARGE, SMALL = 4.0, 0.05  # times the usual scale; init functions of torch lie within 0.5 and 2.5 of it
LOUD_BIAS = 10.0  # no layer starts with it
FREE = 0.02  # of a parameter of no layer: positions, tokens
FREE_LARGE = 10.0
NORMS = (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._BatchNorm)


def rescaled(case: Case) -> Applied | None:
    start = case.snapshots.start()
    if case.run.recorder.step > EARLY or start is None and case.optimizers:
        return None
    parameters = parameters_of(case.optimizers) if start else list(of_models(case))
    first = {id(p): p for p in parameters}  # no step was taken: a GradScaler left it out
    if start is not None:
        first = {id(parameter): values for ref, values in start.tensors if (parameter := ref()) is not None}
    changed: list[str] = []
    shares: dict[str, float] = {}  # by layer: what its weights were multiplied with
    for parameter in sorted(parameters, key=lambda p: -p.dim()):
        values = first.get(id(parameter))
        if values is None or not values.is_floating_point():
            continue
        name, _ = case.run.names.parameter(parameter)
        module = owner(case, name)
        with torch.no_grad():
            layer, _, leaf = name.rpartition(".")
            size = float(detach(values).double().std(unbiased=False)) if values.numel() > 1 else 0.0
            if fit_(values, module, leaf):
                changed.append(name or "a parameter")
                if values.dim() > 1 and math.isfinite(size) and size > 0:
                    shares[layer] = min(1.0, float(detach(values).double().std(unbiased=False)) / size)
            elif values.dim() == 1 and leaf.startswith("bias") and shares.get(layer, 1.0) < 1.0:
                values.mul_(shares[layer])  # it came of the same hand
    if not changed:
        return None
    listed = ", ".join(changed[:4]) + (f" and {len(changed) - 4} more" if len(changed) > 4 else "")
    return Applied(
        treatments.INITIALIZATION, f"first weights of {listed} are brought to the usual scale of their layer",
        "remove --active; to keep it, initialise these layers anew", {"kind": "initialization", "parameters": changed},
        back="start" if start else "",
    )  # fmt: skip


def of_models(case: Case) -> Iterator[Tensor]:
    for model in case.run.names.models:
        top = model.ref()
        yield from top.parameters() if top is not None else ()


def owner(case: Case, name: str) -> nn.Module | None:
    path = name.rpartition(".")[0]
    for layer in case.run.names.layers():
        if layer.name == path:
            return layer.ref()
    return None


def fit_(values: Tensor, module: nn.Module | None, leaf: str) -> bool:
    """In place; whether anything had to be done."""
    mended = mend_(values, torch.zeros_like(values)) > 0
    usual = usual_scale(values, module, leaf)
    if usual is None:
        return mended
    size = float(detach(values).double().std(unbiased=False)) if values.numel() > 1 else abs(float(values))
    if usual == 0.0:
        if float(values.abs().max()) > LOUD_BIAS:
            values.zero_()
            return True
        return mended
    if mended and size < SMALL * usual:
        generator = torch.Generator().manual_seed(0)
        values.copy_(torch.randn(values.shape, generator=generator) * usual)
        return True
    if size > LARGE * usual or 0 < size < SMALL * usual:
        values.mul_(usual / size)
        return True
    return mended


def usual_scale(values: Tensor, module: nn.Module | None, leaf: str) -> float | None:
    """Standard deviation that torch would give; 0 for what should be small; None: any is right."""
    if isinstance(module, NORMS):
        return None
    if values.dim() < 2:
        return 0.0
    if isinstance(module, nn.Embedding):
        return 1.0
    if module is None or (leaf != "weight" and not leaf.startswith("weight")):
        return FREE if float(detach(values).abs().max()) > FREE_LARGE else None
    fan_in = values[0].numel()
    if isinstance(module, nn.RNNBase):
        return 1 / math.sqrt(3 * module.hidden_size)
    return 1 / math.sqrt(3 * fan_in)
