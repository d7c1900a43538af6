"""What the traces of several ranks say together: who was first, whether one was alone, and whether replicas differ."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..trace.schema import BAD
from ..trace.trace import Trace
from . import batchnorm, fields, first_bad, replicas
from .replicas import Desync

LOUD = 10.0  # times the median of the losses before: in healthy runs single batches stay below 4
BEFORE = 3  # losses that such a median needs
CLOSES = 3  # version of the trace format since which a regular end is noted
FEW = 4  # values per channel: statistics of four values or fewer are noise (causes/batchnorm_tiny_batch.py)
# how a rank ends because another one did: what gloo, NCCL and the launcher say to those that are left
CONSEQUENCE = re.compile(
    r"connection (closed|reset|refused)|by peer|gloo|nccl|SignalException|broken pipe|timed? ?out|KeyboardInterrupt"
    r"|DistNetworkError|DistBackendError",
    re.IGNORECASE,
)

Numbers = tuple[tuple[int, float], ...]  # (rank, value)


@dataclass(frozen=True)
class Ended:
    """A rank that an exception or a kill ended, or that made fewer steps than the others."""

    rank: int
    steps: int
    most: int  # steps of the rank that made most
    error: str | None
    consequence: bool  # the error says that another rank was gone
    silent: bool = False  # it came to no end that Python knows: killed, or left by os._exit


@dataclass(frozen=True)
class Tiny:
    """One rank alone whose BatchNorm saw a few values per channel."""

    rank: int
    step: int
    layer: str
    fewest: int
    others: int  # the least that any other rank's saw


@dataclass(frozen=True)
class Ranks:
    world: int
    recorded: tuple[int, ...]
    first: int  # the rank whose trace tells the story
    step: int | None = None  # where its own loss or gradient left its path; None: nowhere
    own: tuple[int, ...] = ()  # ranks that did so by themselves at that step, before anything was averaged
    losses: Numbers = ()  # at that step
    local: Numbers = ()  # norm of each rank's gradient at that step, before it was averaged
    reduced: float | None = None  # norm of what the optimizer was given then
    desync: Desync | None = None
    tiny: Tiny | None = None
    uneven: tuple[int, tuple[tuple[int, int], ...]] | None = None  # first step at which batches were not of one size
    ended: tuple[Ended, ...] = ()

    @property
    def alone(self) -> bool:
        return len(self.own) == 1 and len(self.recorded) > 1

    @property
    def together(self) -> bool:
        return len(self.own) == len(self.recorded) > 1


def gather(traces: Mapping[int, Trace], world: int) -> Ranks:
    left = {rank: step for rank, trace in traces.items() if (step := _left(trace)) is not None}
    step = min(left.values()) if left else None
    own = tuple(rank for rank in left if left[rank] == step)
    desync, tiny, ended = replicas.gather(traces), _tiny(traces), _ended(traces)
    crashed = [end.rank for end in ended if end.error is not None and not end.consequence]
    suspects = [*own, *_bad(traces), *crashed, *([tiny.rank] if tiny else ()), *_odd(desync), *traces]
    first = suspects[0]
    return Ranks(
        world=world,
        recorded=tuple(traces),
        first=first,
        step=step,
        own=own,
        losses=_at(traces, step, "loss") if step is not None else (),
        local=_local(traces, step) if step is not None else (),
        reduced=_reduced(traces[first], step) if step is not None else None,
        desync=desync,
        tiny=tiny,
        uneven=_uneven(traces),
        ended=ended,
    )


def _left(trace: Trace) -> int | None:
    """The first step at which this rank's own loss, outputs or gradients were not finite, or its loss was loud.

    What the optimizer is given is everybody's: a rank whose only fault is a bad gradient after the reduction is none.
    """
    losses = trace.rows("loss")
    losses = losses[losses["mode"] == 0]
    steps, values = losses["step"], losses["value"]
    done = trace.rows("step")
    skipped = done["step"][done["value"] == 0]  # overflows that a GradScaler left out, as designed
    found = [int(steps[place]) for place in np.flatnonzero(~np.isfinite(values))[:1]]
    born = first_bad.gather(trace).first
    if born is not None:
        if born.alarm == "loss" and born.unknown != first_bad.ELSEWHERE:
            found.append(born.step)
        for kind, column in (("local_gradient", "value"), ("output_gradient", "norm")):
            rows = trace.rows(kind)
            bad = ((rows["flags"] & BAD) != 0) | ~np.isfinite(rows[column])
            bad &= ~np.isin(rows["step"], skipped)
            found += [int(rows["step"][place]) for place in np.flatnonzero(bad)[:1]]
    loud = _loud(values)
    if loud is not None and (born is not None or values[-1] > LOUD * abs(values[0])):  # one loud batch is no failure
        found.append(int(steps[loud]))
    return min(found, default=None)


def _loud(values: NDArray[np.float64]) -> int | None:
    for place in range(BEFORE, len(values)):
        usual = float(np.median(np.abs(values[:place])))
        if usual > 0 and values[place] > LOUD * usual:
            return place
    return None


def _bad(traces: Mapping[int, Trace]) -> list[int]:
    """Ranks with an incident, the earliest first."""
    born = {rank: first_bad.gather(trace).first for rank, trace in traces.items()}
    steps = {rank: bad.step for rank, bad in born.items() if bad is not None}
    return sorted(steps, key=lambda rank: steps[rank])


def _odd(desync: Desync | None) -> list[int]:
    return [] if desync is None or desync.rank is None else [desync.rank]


def _at(traces: Mapping[int, Trace], step: int, kind: str) -> Numbers:
    found = []
    for rank, trace in traces.items():
        rows = trace.rows(kind)
        here = rows["value"][rows["step"] == step]
        if len(here):
            bad = here[~np.isfinite(here)]
            found.append((rank, float(bad[0] if len(bad) else here[-1])))
    return tuple(found)


def _local(traces: Mapping[int, Trace], step: int) -> Numbers:
    """Over all parameters; of several backwards in the step the last, which stands for their sum."""
    found = []
    for rank, trace in traces.items():
        rows = trace.rows("local_gradient")
        rows = rows[rows["step"] == step]
        last = {int(subject): float(value) for subject, value in zip(rows["subject"], rows["value"], strict=True)}
        if last:
            with np.errstate(all="ignore"):
                found.append((rank, float(np.sqrt(np.sum(np.square(list(last.values())))))))
    return tuple(found)


def _reduced(trace: Trace, step: int) -> float | None:
    for kind in ("clip", "gradient_norm"):  # before it was clipped, where it was
        rows = trace.rows(kind)
        here = rows["value"][rows["step"] == step]
        if len(here):
            return float(here[-1])
    return None


def _tiny(traces: Mapping[int, Trace]) -> Tiny | None:
    seen = {rank: norm for rank, trace in traces.items() if (norm := batchnorm.gather(trace)) is not None}
    few = [rank for rank, norm in seen.items() if norm.fewest <= FEW]
    if len(few) != 1 or len(seen) < 2:
        return None
    rank = few[0]
    others = min(norm.fewest for other, norm in seen.items() if other != rank)
    return Tiny(rank, seen[rank].step, seen[rank].layer, seen[rank].fewest, others)


def _uneven(traces: Mapping[int, Trace]) -> tuple[int, tuple[tuple[int, int], ...]] | None:
    sizes = {rank: _batch_sizes(trace) for rank, trace in traces.items()}
    common = sorted(set.intersection(*(set(known) for known in sizes.values())))
    for step in common:
        here = tuple((rank, sizes[rank][step]) for rank in traces)
        if len({size for _, size in here}) > 1:
            return step, here
    return None


def _batch_sizes(trace: Trace) -> dict[int, int]:
    rows = trace.rows("input")
    rows = rows[rows["mode"] == 0]
    found: dict[int, int] = {}
    for step, shape in zip(rows["step"].tolist(), rows["shape"].tolist(), strict=True):
        known = trace.shapes.get(shape)
        if known:
            found[step] = known[0]  # the last forward of the step
    return found


def _ended(traces: Mapping[int, Trace]) -> tuple[Ended, ...]:
    most = max(trace.steps for trace in traces.values())
    found = []
    for rank, trace in traces.items():
        notes = trace.notes_of("exception")[-1:]
        error = None
        if notes:
            error = f"{fields.words(notes[0], 'type')}: {fields.words(notes[0], 'message') or ''}"
        tells = (fields.whole(trace.header, "version") or 0) >= CLOSES
        silent = tells and error is None and not trace.alive and not trace.notes_of("closed")
        if error is not None or silent or trace.steps < most:
            consequence = bool(error and CONSEQUENCE.search(error))
            found.append(Ended(rank, trace.steps, most, error, consequence, silent))
    return tuple(found)
