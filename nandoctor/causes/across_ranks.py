"""What the ranks of one training say side by side, as facts: for the report, and for the causes that follow from it."""

import math
from collections.abc import Iterable

from ..evidence import Ranks
from .cause import Fact
from .wording import num

LISTED = 8  # ranks whose numbers are told one by one
FAR = 10.0  # times what the other ranks have: no luck of the draw


def facts(r: Ranks) -> tuple[Fact, ...]:
    """The most telling first."""
    found = [*_who(r), *_gradients(r), *replicas(r), *_tiny(r), *_ends(r), *_uneven(r)]
    return tuple(found)


def _who(r: Ranks) -> Iterable[Fact]:
    if r.step is None or len(r.recorded) < 2:
        return
    losses = _listed(r.losses)
    if r.together:
        text = f"all {len(r.own)} ranks left their path together at step {r.step}, losses: {losses}"
        yield Fact(f"{text}; no single rank's data did it", len(r.own), step=r.step)
    elif r.alone:
        others = [(rank, loss) for rank, loss in r.losses if rank != r.first and math.isfinite(loss)]
        text = f"rank {r.first} alone left its path at step {r.step}, the others followed by the averaged gradients"
        if others:
            text += f"; losses of that step: {losses}"
        yield Fact(f"{text}: its data or its device is to blame, not what all ranks share", r.first, step=r.step)
    else:
        ranks = ", ".join(map(str, r.own[:LISTED]))
        text = f"{len(r.own)} of {len(r.recorded)} ranks left their path at step {r.step}: {ranks}"
        yield Fact(f"{text}; losses: {losses}", len(r.own), step=r.step)


def _gradients(r: Ranks) -> Iterable[Fact]:
    local = dict(r.local)
    if r.step is None or r.first not in local or len(local) < 2:
        return
    own, others = local[r.first], [norm for rank, norm in r.local if rank != r.first]
    if all(map(math.isfinite, (own, *others))) and not own > FAR * max(others):
        return
    if r.together:
        return
    reduced = f"; averaged: {num(r.reduced)}" if r.reduced is not None else ""
    text = f"norm of the gradient at step {r.step} before the ranks' were averaged: {_listed(r.local)}{reduced}"
    yield Fact(text, own, max(others), r.step)


def replicas(r: Ranks) -> Iterable[Fact]:
    """Whether they hold the same weights, and were given the same gradients."""
    d = r.desync
    if d is None:
        return
    more = f" and {d.parameters - 1} other parameters differ" if d.parameters > 1 else " differs"
    who = f"; rank {d.rank} is the one" if d.rank is not None else ""
    text = f"from step {d.step} on the replicas are not equal: {d.parameter}{more}, norms {_listed(d.norms)}{who}"
    yield Fact(text, step=d.step, layer=d.parameter.rpartition(".")[0] or None)
    if d.gradients_equal:
        yield Fact(f"all ranks' optimizers were given the same gradients at step {d.step}", step=d.step)
    else:
        text = f"at step {d.step} the optimizers were given gradients that were not averaged: a step under no_sync(), "
        yield Fact(f"{text}or a forward past DistributedDataParallel (model.module)", step=d.step)


def _tiny(r: Ranks) -> Iterable[Fact]:
    if r.tiny is not None:
        t = r.tiny
        text = f"on rank {t.rank} alone {t.layer} took statistics from {t.fewest} values per channel"
        yield Fact(f"{text}; the other ranks never from fewer than {t.others}", t.fewest, t.others, t.step, t.layer)


def _ends(r: Ranks) -> Iterable[Fact]:
    missing = [rank for rank in range(min(r.world, 1 << 16)) if rank not in r.recorded]
    if missing:
        ranks = ", ".join(map(str, missing[:LISTED]))
        text = f"nothing was recorded of rank {ranks}: it did not come to its first backward"
        yield Fact(f"{text}, or recorded on another machine")
    by_itself = [end for end in r.ended if not end.consequence]
    for end in by_itself[:LISTED]:
        made = f"rank {end.rank} ended after {end.steps} steps"
        behind = f" ({end.most - end.steps} fewer than others)" if end.steps < end.most else ""
        silent = " without a word: killed, or left by os._exit" if end.silent else ""
        yield Fact(f"{made}{behind}{f': {end.error[:160]}' if end.error else silent}", step=end.steps)
    followers = [end for end in r.ended if end.consequence]
    if followers:
        ranks = ", ".join(str(end.rank) for end in followers[:LISTED])
        yield Fact(f"rank {ranks} ended because another one was gone", step=followers[0].steps)


def _uneven(r: Ranks) -> Iterable[Fact]:
    if r.uneven is not None:
        step, sizes = r.uneven
        yield Fact(f"the ranks' batches are not of one size: at step {step} {_listed(sizes)} rows", step=step)


def _listed(numbers: Iterable[tuple[int, float]]) -> str:
    numbers = list(numbers)
    shown = ", ".join(f"{num(value)} (rank {rank})" for rank, value in numbers[:LISTED])
    return f"{shown}, ..." if len(numbers) > LISTED else shown
