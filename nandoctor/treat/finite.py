"""Are these tensors finite? One kernel for many of them, an exact look only where a norm is not."""

import math
from typing import Any

import torch
from torch import Tensor

from ..recording.stats import detach, is_bad, plain

HALF = (torch.float16, torch.bfloat16)


def norms(tensors: list[Tensor]) -> list[float]:
    """L2 norms in float32 or wider; a tensor that cannot be measured counts as 0."""
    result = [0.0] * len(tensors)
    groups: dict[tuple[Any, Any], list[tuple[int, Tensor]]] = {}
    for place, tensor in enumerate(tensors):
        readable = plain(tensor)
        if readable is not None:
            groups.setdefault((readable.dtype, readable.device), []).append((place, detach(readable)))
    for (dtype, _), members in groups.items():
        values = [tensor for _, tensor in members]
        if dtype in HALF:
            found = [torch.linalg.vector_norm(x, dtype=torch.float32) for x in values]
        else:
            found = list(torch._foreach_norm(values))
        for (place, _), norm in zip(members, torch.stack(found).tolist(), strict=True):
            result[place] = norm
    return result


def bad_among(tensors: list[Tensor]) -> list[int]:
    """Places of those that hold a NaN or an Inf."""
    return [
        place
        for place, norm in enumerate(norms(tensors))
        if not math.isfinite(norm) and is_bad(tensors[place])
    ]


def mend_(tensor: Tensor, good: Tensor | None = None, otherwise: float = 0.0) -> int:
    """Put the entries of `good` (or a number) in the place of NaN and Inf; returns how many there were."""
    target = tensor._values() if tensor.layout is torch.sparse_coo else detach(tensor)
    wrong = ~torch.isfinite(target)
    count = int(wrong.sum())
    if count and good is not None and good.shape == target.shape:
        target.copy_(torch.where(wrong, good.to(target.dtype), target))
    elif count:
        target.masked_fill_(wrong, otherwise)
    return count
