"""Whether the replicas of a data-parallel training hold the same weights, step for step."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..trace.trace import Trace
from . import fields

ROUNDING = 1e-6  # relative: the same elements summed by another kernel or number of threads; a replica's are equal
EQUAL_STEPS = 3  # steps with equal gradients: without DistributedDataParallel only these show that ranks are replicas
LARGER = 1.2  # a norm cannot change by more than the norm of the update; a fifth for updates that are sampled
SHARDED = ("fully_shard", "FullyShardedDataParallel")

Table = dict[tuple[str, int], float]  # (parameter, step) -> norm


@dataclass(frozen=True)
class Desync:
    """Replicas that are to be equal and are not."""

    step: int
    parameter: str
    norms: tuple[tuple[int, float], ...]  # by rank
    rank: int | None  # the one that differs from the others, where that can be told
    gradients_equal: bool  # the optimizers were given the same: the difference came by another way
    written: bool  # that rank's weight changed between two steps, by nobody that was seen
    loaded: bool  # a checkpoint was loaded on some rank within a step of it
    parameters: int  # that differ at that step


def gather(traces: Mapping[int, Trace]) -> Desync | None:
    strategies = {fields.words(note, "strategy") for trace in traces.values() for note in trace.notes_of("parallel")}
    if len(traces) < 2 or strategies & set(SHARDED):
        return None
    weights = {rank: norms(trace, "weight") for rank, trace in traces.items()}
    gradients = {rank: norms(trace, "parameter_gradient") for rank, trace in traces.items()}
    if "DistributedDataParallel" not in strategies and not _alike(gradients):
        return None  # ranks that train something of their own each
    apart = _apart(weights)
    if not apart:
        return None
    step = min(at for _, at in apart)
    names = [name for name, at in apart if at == step]
    name = names[0]
    here = tuple((rank, table[name, step]) for rank, table in weights.items())
    odd = _odd_one(traces, weights, name, step)
    return Desync(
        step=step,
        parameter=name,
        norms=here,
        rank=odd,
        gradients_equal=not any(at == step for _, at in _apart(gradients)),
        written=any(_written(trace, step) for trace in traces.values()),
        loaded=any(_loaded(trace, step) for trace in traces.values()),
        parameters=len(names),
    )


def norms(trace: Trace, kind: str) -> Table:
    rows = trace.rows(kind)
    names = {number: subject.name for number, subject in trace.subjects.items()}
    pairs = zip(rows["subject"].tolist(), rows["step"].tolist(), rows["norm"].tolist(), strict=True)
    return {(names.get(subject, ""), step): norm for subject, step, norm in pairs}  # the last of a step: after it


def _apart(tables: Mapping[int, Table]) -> list[tuple[str, int]]:
    """What all ranks have, and not all alike; in the order of the first rank's rows."""
    first, *others = tables.values()
    keys = [key for key in first if all(key in table for table in others)]
    values = np.array([[table[key] for key in keys] for table in (first, *others)])
    different = _differ(values)
    return [key for key, apart in zip(keys, different.tolist(), strict=True) if apart]


def _differ(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """By columns; NaN is like NaN."""
    with np.errstate(all="ignore"):
        broken = ~np.isfinite(values)
        clean = np.where(broken, 0.0, values)
        far = clean.max(axis=0) - clean.min(axis=0) > ROUNDING * np.abs(clean).max(axis=0)
        answer: NDArray[np.bool_] = np.where(broken.any(axis=0), ~broken.all(axis=0), far)
        return answer


def _alike(gradients: Mapping[int, Table]) -> bool:
    apart = {step for _, step in _apart(gradients)}
    steps = set.intersection(*({step for _, step in table} for table in gradients.values()))
    return len(steps) >= EQUAL_STEPS and len(steps - apart) >= 0.9 * len(steps)


def _odd_one(traces: Mapping[int, Trace], weights: Mapping[int, Table], name: str, step: int) -> int | None:
    """By majority; of two by a write that was seen, or by a change larger than its own update."""
    here = {rank: table[name, step] for rank, table in weights.items()}
    for rank, value in here.items():
        others = np.array([[other] for at, other in here.items() if at != rank])
        if len(others) > 1 and not _differ(others)[0] and _differ(np.array([[value], others[0]]))[0]:
            return rank
    for suspects in (
        [rank for rank, trace in traces.items() if _written(trace, step)],
        [rank for rank, trace in traces.items() if _jumped(trace, weights[rank], name, step)],
    ):
        if len(suspects) == 1:
            return suspects[0]
    return None


def _written(trace: Trace, step: int) -> bool:
    return bool((trace.rows("foreign_write")["step"] == step).any())


def _loaded(trace: Trace, step: int) -> bool:
    rows = trace.rows("checkpoint")
    loads = [int(n) for n in np.unique(rows["subject"]) if _name(trace, int(n)).startswith("load")]
    return bool((np.isin(rows["subject"], loads) & (np.abs(rows["step"] - step) <= 1)).any())


def _jumped(trace: Trace, weights: Table, name: str, step: int) -> bool:
    before = weights.get((name, step - 1))
    update = norms(trace, "update").get((name, step))
    if before is None or update is None:
        return False
    return abs(weights[name, step] - before) > LARGER * update


def _name(trace: Trace, number: int) -> str:
    subject = trace.subjects.get(number)
    return subject.name if subject is not None else ""
