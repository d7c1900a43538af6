"""Rows whose numbers are still on an accelerator: sent to the host without waiting, read a step later."""

from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct
from typing import Any

import torch
from torch import Tensor

from ..trace.schema import AT_FLAGS, AT_KIND, AT_NUMBERS, BAD, KIND, ROW
from .stats import Stats

GRADIENT, GRADIENT_NORM = KIND["parameter_gradient"], KIND["gradient_norm"]
NUMBERS = Struct("<ddd")
Waiting = list[tuple[list[int], Tensor]]  # places among the rows; their numbers, [places, 3] on a device


@dataclass
class Flight:
    rows: list[bytes]
    parts: list[tuple[list[int], Tensor, Any]]  # places, numbers on their way, the event after them

    def landed(self) -> list[bytes]:
        """The rows with their numbers. Waits only where a step took less time than the copy."""
        for places, numbers, event in self.parts:
            if event is not None:
                event.synchronize()
            for place, (low, high, norm) in zip(places, numbers.tolist(), strict=True):
                row = bytearray(self.rows[place])
                row[AT_FLAGS] |= BAD if Stats(low, high, norm).bad else 0
                NUMBERS.pack_into(row, AT_NUMBERS, low, high, norm)
                self.rows[place] = bytes(row)
        return self.rows


def gradient_norms(rows: list[bytes]) -> Iterator[tuple[int, int, float]]:
    """(kind, step, norm) of the rows of gradients and of their totals."""
    for row in rows:
        if row[AT_KIND] in (GRADIENT, GRADIENT_NORM):
            step, *_, norm = ROW.unpack_from(row)
            yield row[AT_KIND], step, norm


def depart(rows: list[bytes], waiting: Waiting) -> Flight:
    """One transfer for each device, in the order of its stream; on CUDA nothing waits for it."""
    by_device: dict[torch.device, Waiting] = {}
    for places, numbers in waiting:
        by_device.setdefault(numbers.device, []).append((places, numbers))
    parts = []
    for device, pairs in by_device.items():
        together = torch.cat([numbers for _, numbers in pairs])
        places = [place for found, _ in pairs for place in found]
        event = None
        if device.type == "cuda":
            host = torch.empty(together.shape, dtype=together.dtype, pin_memory=True)
            host.copy_(together, non_blocking=True)
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record(torch.cuda.current_stream(device))
            together = host
        parts.append((places, together, event))
    return Flight(rows, parts)
