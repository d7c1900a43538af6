"""Do the model's answers belong to their samples? At a look the loss is computed again with the answers of a batch
exchanged among its samples. Where it stays what it was, whatever the loss is, the model tells nothing of its targets.
"""

import math
from typing import Any

import torch
from torch import Tensor

from ..autopsy.again import Again
from ..autopsy.values import order
from ..looks import LOOK_EVERY
from ..quiet import quiet
from ..run import Run
from ..stats import item

EXCHANGES = 4  # per look: their mean and spread are averaged over the looks
FEW = 8  # samples
LARGEST = 200_000  # elements of the answers
SAME = 1e-3  # repeated with the answers as they were, the loss is what it was
BLIND = 1e-6  # spread of the answers over the samples, against their size: float32
ROUNDING = 1e-9  # of what is computed in float64


def look(run: Run, loss: Tensor) -> None:
    """An `exchanged` row for each call of a model whose answers the loss is made of."""
    recorder = run.recorder
    if recorder.step % LOOK_EVERY or loss.grad_fn is None or not loss.is_cpu or loss.numel() != 1:
        return
    sources = [number for number, *_ in run.outputs]
    known = {
        number: (value, call) for number, value, version, call in run.outputs
        if sources.count(number) == 1 and value._version == version and len(value) >= FEW and value.numel() <= LARGEST
    }  # fmt: skip
    if not known:
        return
    with torch.no_grad(), quiet():
        again = Again(loss.grad_fn, {number: value for number, (value, _) in known.items()})
        answers = again.answers
        calls: dict[int, dict[Any, Tensor]] = {}
        for node, value in answers.items():
            calls.setdefault(known[order(node)][1], {})[node] = value
        first = again.loss() if again.whole and answers else None
        if first is None or not math.isfinite(first):
            return
        given = item(loss.detach())
        if (again.guessed or not again.shifted) and not abs(first - given) <= SAME * max(abs(given), abs(first)):
            return
        for place, group in enumerate(calls.values()):
            row = _exchanged(again, answers, group, first)
            if row is not None:
                recorder.add("exchanged", recorder.subject(f"answers.{place}", "loss"), row)


def _exchanged(
    again: Again, answers: dict[Any, Tensor], group: dict[Any, Tensor], first: float
) -> tuple[float, float, float] | None:
    """(samples, spread, mean rise) of the loss over some exchanges."""
    count = len(next(iter(group.values())))
    if any(len(value) != count for value in group.values()):
        return None
    blind = all(float((v - v.mean(0)).norm()) <= BLIND * float(v.norm()) for v in group.values())
    if blind:  # then there is nothing to exchange: would it matter at all?
        chance = torch.Generator().manual_seed(count)
        size = {node: 1 + value.abs().mean() for node, value in group.items()}
        told = {n: v + 0.1 * size[n] * torch.randn(v.shape, generator=chance, dtype=v.dtype) for n, v in group.items()}
        first_told = again.loss({**answers, **told})
        return None if first_told is None or _rises(again, answers, told, first_told) is None else (count, 1.0, 0.0)
    found = _rises(again, answers, group, first)
    return None if found is None else (float(count), *found)


def _rises(
    again: Again, answers: dict[Any, Tensor], group: dict[Any, Tensor], first: float
) -> tuple[float, float] | None:
    """None where an exchange changes nothing: a loss that does not compare answers with anything of their own."""
    count = len(next(iter(group.values())))
    chance = torch.Generator().manual_seed(count)  # the program's own is left alone
    rises = []
    for _ in range(EXCHANGES):
        places = torch.randperm(count, generator=chance)
        value = again.loss({**answers, **{node: given[places] for node, given in group.items()}})
        if value is None or not math.isfinite(value):
            return None
        rises.append(value - first)
    mean = sum(rises) / EXCHANGES
    spread = math.sqrt(sum((rise - mean) ** 2 for rise in rises) / (EXCHANGES - 1))
    return (spread, mean) if spread > ROUNDING * max(1.0, abs(first)) else None
