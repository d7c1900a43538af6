"""A cut of the learning rate that finds its own size: one factor for each parameter group, from what it moves."""

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from ..causes import treatments
from ..recording.stats import detach
from .applied import Case
from .finite import norms
from .ledger import Ledger
from .rehearsal import Rehearsal, behind, best_of, ends_of, search, sound
from .snapshots import restore
from .vitals import SURE, rises

HEALTHY_RATIO = 0.01  # update / weights of a first step; the study's healthy runs stay below 0.004 later on
LIVELY_RATIO = 0.02  # no factor grows beyond it: half of the largest that a healthy run of the study kept up
TORN = 0.05  # a larger update gives way at once; no healthy first update but of tiny or zero weights reaches it
LOOK = 10  # steps whose losses are held against as many before them
GROWTH = 2.0  # at each look at which the loss has fallen, and the way back where it has risen
LEARNS_WITHIN = 30  # steps: a run that is not below its first losses by then does not learn at this rate
DEEPER = 0.1  # then it is cut to this, and begun again ...
AGAIN = 2  # ... this many times at most
FAR, NEAR = 4.0, 2.0  # between rehearsed rates: first, and when they are reviewed
HOTTER = 10.0  # times the smallest rate of the groups: as evidence/optimizer.py names a hot group
REVIEW = 60  # steps until they are reviewed; then twice as many


class Cut:
    """Factors that grow while the loss falls and give way when it rises; a rise also bounds later growth."""

    def __init__(self, case: Case, factor: float, share: float, fresh: bool) -> None:
        self.case = case
        self.first, self.fresh = factor, fresh  # fresh: momentum begins at 0
        self.share = share  # of the healthy ratio: less at each try
        self.values: dict[tuple[int, int], float] = {}  # by optimizer and group
        self.most: dict[tuple[int, int], float] = {}
        self.ceiling: dict[tuple[int, int], float] = {}  # the same, lowered where the loss has risen
        self.ratios: dict[tuple[int, int], float] = {}
        self.before: dict[int, list[list[tuple[Tensor, Tensor]]]] = {}
        self.losses: list[float] = []
        self.step = self.began = case.run.recorder.step
        self.begun_again, self.hopeless = 0, False
        self.scale, self.settled = 1.0, False  # chosen by rehearsal: it does not grow by itself then
        self.review = REVIEW

    def rate(self, optimizer: Optimizer, place: int) -> float:
        step = self.case.run.recorder.step
        if place == 0:
            if step != self.step:
                self.step = step
                self._look()
            self.before[id(optimizer)] = [[(p, detach(p).clone()) for p in group["params"] if p.grad is not None]
                                          for group in optimizer.param_groups]  # fmt: skip
        group = optimizer.param_groups[place]
        return self.values.get((id(optimizer), place), self.first * self._alone(group))

    def after(self, optimizer: Optimizer) -> None:
        """What did each group move? The first step fits the factors to it."""
        if self.hopeless:  # not before the step, whose gradients belong to the weights that go
            self._begin_again()
        copies = self.before.pop(id(optimizer), None)
        if copies is None or not self.losses and self.begun_again:
            return
        for place, (group, pairs) in enumerate(zip(optimizer.param_groups, copies, strict=False)):
            moved = _total([detach(p) - old for p, old in pairs])
            size, key = _total([old for _, old in pairs]), (id(optimizer), place)
            ratio = moved / size if size > 0 else 0.0
            if not math.isfinite(ratio) or ratio <= 0:
                continue
            self.ratios[key] = ratio
            if key not in self.values:
                used = self.first * self._alone(group)
                fits = used * self.scale * self.share * HEALTHY_RATIO * self._alone(group) / ratio
                self.most[key] = self.ceiling[key] = most(optimizer, group)
                self.values[key] = min(self.most[key], fits)
            elif ratio > TORN:
                self.values[key] *= HEALTHY_RATIO / ratio

    def _alone(self, group: dict[str, Any]) -> float:
        """The share of the first step in what it comes to with the steps that momentum adds to it."""
        return 1 - momentum(group) if self.fresh else 1.0

    # --- rehearsed -------------------------------------------------------------------------------------------
    def settle(self, rehearsal: Rehearsal) -> None:
        """Which multiple of what arithmetic says lowers the loss most?"""
        settle(self.case, rehearsal, self.take, FAR)

    def take(self, times: float) -> None:
        self.settled = True
        self.scale *= times
        self.values = {key: min(self.most.get(key, 1.0), value * times) for key, value in self.values.items()}

    def again(self, rehearsal: Rehearsal) -> None:
        """What was right for the first steps need not be so for later ones.

        Over a short time a smaller rate nearly always looks better: it is asked for only where this one does harm.
        """
        if not self.settled or self.case.run.recorder.step - self.began < self.review:
            return
        self.review *= 2
        settle(self.case, rehearsal, self.take, NEAR, harmful, stays=True)

    def _look(self) -> None:
        vitals = self.case.vitals
        if vitals.loss.latest is None or not math.isfinite(vitals.loss.latest):
            return
        self.losses.append(vitals.loss.latest)
        seen = len(self.losses)
        if seen % LOOK or seen < 2 * LOOK:
            return
        now, then = self.losses[-LOOK:], self.losses[-2 * LOOK : -LOOK]
        rise = rises(now, then)
        if rise < -SURE and not self.settled:
            for key, value in self.values.items():
                if self.ratios.get(key, math.inf) * GROWTH < LIVELY_RATIO:
                    self.values[key] = min(value * GROWTH, self.ceiling[key])
        elif rise > SURE:
            for key, value in self.values.items():
                self.ceiling[key] = value / GROWTH
                self.values[key] = value / GROWTH
        if seen == LEARNS_WITHIN and self.begun_again < AGAIN and not rises(now, self.losses[:LOOK]) < 0:
            self.hopeless = True

    def _begin_again(self) -> None:
        snapshots, self.hopeless = self.case.snapshots, False
        back = snapshots.before(self.began)
        if back is None:
            return
        restore(back)
        snapshots.forget_after(back)
        self.begun_again += 1
        self.losses.clear()
        self.values = {key: value * DEEPER for key, value in self.values.items()}
        Ledger(self.case.run.recorder).write(
            "once", treatments.LEARNING_RATE, self.case.cause,
            f"the learning rate is multiplied by {DEEPER:g} again; weights and optimizer state are those of step "
            f"{back.step} again", f"the loss has not fallen within {LEARNS_WITHIN} steps",
        )  # fmt: skip


class Tempo:
    """One factor for the rate of all groups, or for the length that gradients are clipped to."""

    def __init__(self, case: Case, value: float, most: float = math.inf) -> None:
        self.case, self.value, self.most = case, value, most

    def settle(self, rehearsal: Rehearsal) -> None:
        settle(self.case, rehearsal, self.take, FAR)

    def take(self, times: float) -> None:
        self.value = min(self.most, self.value * times)


def harmful(losses: list[float]) -> bool:
    """The copy was lost, or its loss surely rose."""
    third = len(losses) // 3
    return not sound(losses) or rises(losses[-third:], losses[:third]) > SURE


def settle(
    case: Case, rehearsal: Rehearsal, take: Callable[[float], None], far: float,
    lower: Callable[[list[float]], bool] | None = None, stays: bool = False,
) -> None:
    """Take the multiple that fared best in the copies, and say so; nothing where none were made.

    `stays`: what is in force goes on unless another is surely better.
    """
    found = search(rehearsal, take, far, lower)
    best = best_of(found) if found else None
    if stays and found and best is not None and sound(found[1.0]):
        ends = ends_of({times: found[times] for times in (1.0, best)})
        best = best if behind(ends[1.0], ends[best]) > SURE else 1.0
    if found is None or best is None:
        return
    take(best)
    what = f"{best:.3g} times it" if best != 1.0 else "it stays"
    Ledger(case.run.recorder).write(
        "once", treatments.LEARNING_RATE, case.cause, f"{len(found)} sizes of this were rehearsed: {what}",
        f"the loss fell most with it in forked copies of {len(found[best])} steps",
    )  # fmt: skip


def most(optimizer: Optimizer, group: dict[str, Any]) -> float:
    """The largest factor: 1, or what brings a group with a rate of its own, far above the others', down to theirs."""
    rates = [float(each.get("lr") or 0.0) for each in optimizer.param_groups]
    least = min((rate for rate in rates if rate > 0 and math.isfinite(rate)), default=0.0)
    own = float(group.get("lr") or 0.0)
    return least / own if least > 0 and own >= HOTTER * least else 1.0


def momentum(group: dict[str, Any]) -> float:
    """The share of a step that comes again: equal steps add up to 1 / (1 - it). Adam's first step is whole already."""
    value = group.get("momentum", 0.0)
    return min(float(value), 0.99) if isinstance(value, (int, float)) and 0 < value else 0.0


def _total(tensors: list[Tensor]) -> float:
    return math.sqrt(sum(norm * norm for norm in norms(tensors)))
