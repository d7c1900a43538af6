"""What does not change from step to step of the rows of an optimizer's parameters, as recording/kernel.c takes it."""

import math
import struct
from dataclasses import dataclass

import torch
from torch import Tensor

from ...trace.schema import DTYPES, KIND, NO_SHAPE, NORM_ONLY, ROW, SAMPLED
from ..recorder import Recorder
from ..stats import local
from .watched import Watched

GRADIENT, GRADIENT_NORM, WEIGHT, UPDATE = (
    KIND[name] for name in ("parameter_gradient", "gradient_norm", "weight", "update")
)
FLOAT32 = DTYPES.index("float32")
UNWANTED = 255  # kind of a row that the kernel leaves out
SAMPLE = struct.Struct("@QQQ")  # elements, how many are sampled, every how manieth


@dataclass(frozen=True)
class Plan:
    version: int  # of what is known of the parameters (probes/weights.py)
    present: tuple[bool, ...]  # has it a gradient?
    rows: list[tuple[int, int, bool]]  # for each parameter: subject, shape, is it wanted?
    total: int  # subject of the gradient norm
    readable: bool  # by one kernel
    wrapped: bool  # DTensors
    kind: type  # class of the parameters
    gradients: bytes  # packed rows, each without its numbers: for kernel.read_rows
    weights: bytes
    updates: bytes  # with what the norm of a sample is multiplied by
    samples: bytes
    keys: tuple[int, ...]  # of the parameters that are sampled
    lengths: tuple[int, ...]  # how many elements of each

    def fits(self, parameters: list[Tensor]) -> bool:
        """Whether the kernel may read these by it."""
        return self.readable and bool(self.lengths) and len(parameters) == len(self.rows)


def plan_of(
    recorder: Recorder, watched: list[Watched], number: int, version: int, present: tuple[bool, ...]
) -> Plan:
    """number: the optimizer's; present: as in Plan."""
    held = [local(w.parameter) for w in watched]
    rows = [(w.weight, recorder.shape(p.shape), w.wanted) for w, p in zip(watched, held, strict=True)]
    total = recorder.subject(f"{number}", "optimizer")
    counts = [-(-p.numel() // w.stride) if there else 0 for w, p, there in zip(watched, held, present, strict=True)]
    kinds = {type(p) for p in held}

    def packed(kind: int, flags: list[int], norms: list[float]) -> bytes:
        return b"".join([
            ROW.pack(0, subject, shape, 0, kind if wanted else UNWANTED, FLOAT32, flag, 0, 0.0, 0.0, norm)
            for (subject, shape, wanted), flag, norm in zip(rows, flags, norms, strict=True)
        ])  # fmt: skip

    none, nothing = [0] * len(rows), [0.0] * len(rows)
    whole = ROW.pack(0, total, NO_SHAPE, 0, GRADIENT_NORM, 0, 0, 0, 0.0, 0.0, 0.0)
    sampled = [place for place, w in enumerate(watched) if w.wanted and counts[place]]
    return Plan(
        version=version,
        present=present,
        rows=rows,
        total=total,
        readable=all(p.dtype is torch.float32 for p in held) and len(kinds) <= 1,
        wrapped=any(w.parameter is not p for w, p in zip(watched, held, strict=True)),
        kind=kinds.pop() if kinds else Tensor,
        gradients=packed(GRADIENT, none, nothing) + whole,
        weights=packed(WEIGHT, [NORM_ONLY] * len(rows), nothing),
        updates=packed(
            UPDATE,
            [SAMPLED if w.stride > 1 else 0 for w in watched],
            [math.sqrt(p.numel() / max(n, 1)) for p, n in zip(held, counts, strict=True)],
        ),
        samples=b"".join([
            SAMPLE.pack(p.numel(), n, w.stride) if w.wanted else SAMPLE.pack(p.numel(), 0, 0)
            for w, p, n in zip(watched, held, counts, strict=True)
        ]),
        keys=tuple([id(watched[place]) for place in sampled]),
        lengths=tuple([counts[place] for place in sampled]),
    )  # fmt: skip
