"""The optimizers of the program, in the order in which they first stepped, and what is kept of each."""

import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from ..governor import Governor
from ..incident import Place
from .plan import Plan


@dataclass
class Known:
    """Of one optimizer; nothing that keeps it alive."""

    ref: "weakref.ref[torch.optim.Optimizer]"
    number: int
    rates: list[int] = field(default_factory=list)  # subjects of its groups' learning rates
    seen: Any = None  # hyperparameters as they were at the last step
    said: Any = None  # as last noted
    norm: float = 0.0  # of its gradients, when they were last read in a thin step
    place: Place | None = None  # the user's step() line
    stale: int = 0  # steps in a row with gradients that a step had used before
    plan: Plan | None = None  # of its rows


class Roster:
    def __init__(self, governor: Governor) -> None:
        self.governor = governor
        self._by_id: dict[int, Known] = {}  # looked up at every step: a weak dictionary is slow
        self._seen = 0

    def of(self, optimizer: torch.optim.Optimizer) -> Known:
        key = id(optimizer)
        known = self._by_id.get(key)
        if known is None or known.ref() is not optimizer:
            known = self._by_id[key] = Known(weakref.ref(optimizer, partial(_forget, self._by_id, key)), self._seen)
            self._seen += 1
            self.governor.optimizers = self._seen
        return known

    def __iter__(self) -> Iterator[Known]:
        return iter(list(self._by_id.values()))

    def alive(self) -> Iterator[tuple[torch.optim.Optimizer, Known]]:
        return ((optimizer, known) for known in self if (optimizer := known.ref()) is not None)


def _forget(by_id: dict[int, Known], key: int, ref: Any) -> None:
    """An optimizer is gone; another may have its id already."""
    if key in by_id and by_id[key].ref is ref:
        del by_id[key]
