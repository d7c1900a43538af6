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

SELDOM = 25  # steps between two looks of a run that is recorded whole throughout: each computes the loss five times
EXCHANGES = 4  # per look: their mean and spread are averaged over the looks
FEW = 8  # samples
LARGEST = 200_000  # elements of the answers
SAME = 1e-3  # repeated with the answers as they were, the loss is what it was
NUDGE = 0.1  # of the size of answers that are all alike
BLIND = 1e-6  # spread of the answers over the samples, against their size: float32
ROUNDING = 1e-9  # of what is computed in float64


def look(run: Run, loss: Tensor) -> None:
    """An `exchanged` row for each call of a model whose answers the loss is made of."""
    recorder = run.recorder
    governor = recorder.governor
    every = SELDOM if governor.unlimited and recorder.step >= governor.whole_steps else LOOK_EVERY
    if recorder.step % every or loss.grad_fn is None or not loss.is_cpu or loss.numel() != 1:
        return
    sources = [number for number, *_ in run.outputs]
    known = {
        number: (value, call) for number, value, version, call in run.outputs
        if sources.count(number) == 1 and value._version == version and value.dim() and FEW <= len(value)
        and value.numel() <= LARGEST
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
        groups = _comparable(list(calls.values()))
        for place, group in enumerate(groups):
            row = _exchanged(again, answers, group, first)
            if row is not None:
                recorder.add("exchanged", recorder.subject(f"answers.{place}", "loss"), row)


def _comparable(calls: list[dict[Any, Tensor]]) -> list[list[list[Any]]]:
    """Which answers are exchanged: [[nodes whose answers lie one behind the other], ...] that move together.

    Those of a call among its samples. Answers of one shape may be compared with one another (a pair and a pair that is
    none): which of them is whose is a question, too. What several calls gave in several shapes is not understood.
    """
    groups = [[[node] for node in call] for call in calls]
    nodes = [(node, tuple(value.shape)) for call in calls for node, value in call.items()]
    shapes = {shape for _, shape in nodes}
    if len(calls) > 1 and len(shapes) > 1:
        return []
    alike = [[node for node, own in nodes if own == shape] for shape in shapes]
    return groups + [[pooled] for pooled in alike if len(pooled) > 1]


def _exchanged(
    again: Again, answers: dict[Any, Tensor], group: list[list[Any]], first: float
) -> tuple[float, float, float] | None:
    """(samples, spread, mean rise) of the loss over some exchanges."""
    counts = {sum(len(answers[node]) for node in nodes) for nodes in group}
    if len(counts) != 1:
        return None
    count = counts.pop()
    told = {node: answers[node] for nodes in group for node in nodes}
    pools = [torch.cat([told[node] for node in nodes]) for nodes in group]
    if not all(float((pool - pool.mean(0)).norm()) <= BLIND * float(pool.norm()) for pool in pools):
        found = _rises(again, answers, group, count, first)
        return None if found is None else (float(count), *found)
    chance = torch.Generator().manual_seed(count)  # there is nothing to exchange: would it matter at all?
    told = {n: v + NUDGE * (1 + v.abs().mean()) * torch.randn(v.shape, generator=chance, dtype=v.dtype)
            for n, v in told.items()}  # fmt: skip
    nudged = again.loss({**answers, **told})
    found = None if nudged is None else _rises(again, {**answers, **told}, group, count, nudged)
    return None if found is None else (float(count), found[0], 0.0)


def _rises(
    again: Again, answers: dict[Any, Tensor], group: list[list[Any]], count: int, first: float
) -> tuple[float, float] | None:
    """None where an exchange changes nothing: a loss that does not compare answers with anything of their own."""
    chance = torch.Generator().manual_seed(count)  # the program's own is left alone
    rises = []
    for _ in range(EXCHANGES):
        places = torch.randperm(count, generator=chance)
        exchanged = dict(answers)
        for nodes in group:
            pool = torch.cat([answers[node] for node in nodes])[places]
            exchanged.update(zip(nodes, torch.split(pool, [len(answers[node]) for node in nodes]), strict=True))
        value = again.loss(exchanged)
        if value is None or not math.isfinite(value):
            return None
        rises.append(value - first)
    mean = sum(rises) / EXCHANGES
    spread = math.sqrt(sum((rise - mean) ** 2 for rise in rises) / (EXCHANGES - 1))
    return (spread, mean) if spread > ROUNDING * max(1.0, abs(first)) else None
