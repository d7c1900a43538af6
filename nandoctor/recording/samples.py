"""Sampled elements of many tensors as one vector each device: what is compared from step to step."""

from dataclasses import dataclass

import torch
from torch import Tensor

from .stats import detach, ends, item, norms

Three = tuple[float, float, float]


@dataclass(frozen=True)
class Samples:
    """Of tensors on one device."""

    keys: tuple[int, ...]
    lengths: tuple[int, ...]  # elements of each tensor
    vector: Tensor  # float32, or float64 where a tensor is: all of them, one after the other
    plan: bytes = b""  # as the kernel takes it, which has read them

    def like(self, other: "Samples | None") -> bool:
        return other is not None and self.keys == other.keys and self.lengths == other.lengths

    def parts(self) -> list[Tensor]:
        return list(torch.split(self.vector, list(self.lengths)))


def gather(wanted: list[tuple[int, Tensor, int]]) -> list[Samples]:
    """wanted: key, tensor, every how manieth element. One for each device, in the order of the first on it."""
    found = []
    for device in dict.fromkeys(x.device for _, x, _ in wanted):
        here = [(key, detach(x).reshape(-1)[::stride]) for key, x, stride in wanted if x.device == device]
        wide = any(x.dtype is torch.float64 for _, x in here)
        vector = torch.cat([x.to(torch.float64 if wide else torch.float32) for _, x in here])
        found.append(Samples(tuple([key for key, _ in here]), tuple([x.numel() for _, x in here]), vector))
    return found


def sizes(samples: Samples) -> list[float]:
    """L2 norm of each tensor's elements."""
    return norms(samples.parts())


def differences(before: Samples, after: Samples, look: bool) -> list[Three]:
    """(low, high, norm) of what the elements of each tensor changed by; the ends are to be used at a look alone."""
    parts = list(torch.split(after.vector - before.vector, list(before.lengths)))
    extremes = [tuple(item(end) for end in ends(part)) if look else (0.0, 0.0) for part in parts]
    return [(low, high, norm) for (low, high), norm in zip(extremes, norms(parts), strict=True)]


def products(pairs: list[tuple[Tensor, Tensor]], lengths: tuple[int, ...], weights: list[int]) -> list[float]:
    """The dot product of each pair of vectors; a tensor's elements count as often as its weight says."""
    device = pairs[0][0].device
    counts = torch.tensor(lengths, device=device)
    weight = torch.repeat_interleave(torch.tensor(weights, device=device, dtype=pairs[0][0].dtype), counts)
    return [float(n) for n in torch.stack([torch.dot(a * weight, b) for a, b in pairs]).tolist()]
