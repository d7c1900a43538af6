"""A leaf module that was given finite values and returned a NaN or Inf, seen while its call is still on the stack."""

import math
from typing import Any

from torch import Tensor, nn

from ..frames import user_place
from ..incident import Incident
from ..names import Layer
from ..nested import tensors
from ..run import Birth, parameters_of
from ..stats import is_bad, local, word
from .values import describe


def leaf_birth(
    module: nn.Module, layer: Layer, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor, start: int, end: int
) -> Birth:
    """What is known of it now; an in-place module has overwritten its input by its output."""
    given = [(path, tensor) for path, tensor in (*tensors(args), *tensors(kwargs)) if tensor.is_floating_point()]
    in_place = getattr(module, "inplace", False)
    finite = not any(is_bad(tensor) for _, tensor in given) if given and not in_place else in_place is False
    own = [(name, value) for name, value in parameters_of(module)]
    operands = [describe("input", tensor) for _, tensor in given[:4]]
    operands += [describe(name, value) for name, value in own[:4]]
    operands.append(describe("result", output))
    return Birth(
        layer, user_place(), kind_of(output), word(output.dtype), start, end, operands,
        parameters_finite=not any(is_bad(value) for _, value in own), inputs_finite=finite,
    )  # fmt: skip


def kind_of(value: Tensor) -> str:
    """nan, inf or -inf: the worst that a tensor holds."""
    value = local(value)
    low, high = (float(end) for end in value.detach().aminmax()) if value.numel() else (0.0, 0.0)
    if math.isnan(low):
        return "nan"
    return "inf" if high == math.inf else "-inf"


def weight(incident: Incident, name: str, kind: str | None, parameter: Tensor) -> None:
    """A parameter that an update has made bad."""
    incident.layer, incident.module, incident.tensor = name.rpartition(".")[0], kind, name
    incident.kind, incident.dtype = kind_of(parameter), word(parameter.dtype)
    incident.operands = [describe("weight", parameter)]
    if parameter.grad is not None:
        incident.operands.append(describe("gradient", parameter.grad))
