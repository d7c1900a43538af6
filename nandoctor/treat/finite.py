"""Are these tensors finite? One kernel for many of them, an exact look only where a norm is not."""

import math

import torch
from torch import Tensor

from ..recording import stats
from ..recording.stats import detach, is_bad, plain


def norms(tensors: list[Tensor]) -> list[float]:
    """L2 norms in float32 or wider; a tensor that cannot be measured counts as 0."""
    readable = [(place, x) for place, tensor in enumerate(tensors) if (x := plain(tensor)) is not None]
    result = [0.0] * len(tensors)
    for (place, _), norm in zip(readable, stats.norms([x for _, x in readable]), strict=True):
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
