"""Pulse and temperature: the last losses and gradient norms, and whether the newest stands out."""

import math
import statistics
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

KEPT = 40  # values that the newest is held against
LEAST = 8  # fewer say nothing about what is usual
FAR = 6.0  # times the spread (MAD) on a log scale: a noisy small model stays within it
WON = 0.25  # of the best that was ever won; a run that keeps less has lost it again
SURE = 2.0  # standard errors by which a loss has to have risen or fallen
SLOW_START = 30  # losses: as long may a healthy run hover before it is seen to learn, as in cut.py's LEARNS_WITHIN
DRIFT, LOST = 40, 0.15  # losses since the best level, and the share of what was won that has gone since
RISEN = 1.5  # times the rate of that level: a schedule that goes on upwards
LATE = 8  # losses whose median is the level that a run has reached
JUMP = math.log(4.0)  # and at least the jump that evidence/onset.py calls leaving the path


@dataclass
class Series:
    """Logarithms of what was usual; a value that stands out does not become usual by itself."""

    usual: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT))
    latest: float | None = None

    def add(self, value: float) -> bool:
        """Whether it stands out."""
        self.latest = value
        if not math.isfinite(value):
            return True
        size = math.log(max(abs(value), 1e-30))
        out = self.stands_out(size)
        self.usual.append(size)
        return out

    def stands_out(self, size: float) -> bool:
        if len(self.usual) < LEAST:
            return False
        middle = statistics.median(self.usual)
        spread = statistics.median(abs(x - middle) for x in self.usual) * 1.4826
        return size > middle + max(FAR * spread, JUMP)

    def middle(self) -> float | None:
        """The usual value."""
        return math.exp(statistics.median(self.usual)) if self.usual else None

    def high(self) -> bool:
        """The latest lies above all but the usual noise: no moment to take a snapshot."""
        middle = self.middle()
        return middle is not None and self.latest is not None and not self.latest <= 2 * middle


@dataclass
class Vitals:
    loss: Series = field(default_factory=Series)
    late: deque[float] = field(default_factory=lambda: deque(maxlen=LATE))  # losses as they were
    early: list[float] = field(default_factory=list)  # the first losses
    losses: int = 0
    best: float = math.inf  # the lowest level of LATE losses
    best_at: int = 0  # losses until then
    best_step: int = 0  # and the step
    best_rate: float = 0.0  # the learning rate then
    rate: float = 0.0  # and now
    norm: Series = field(default_factory=Series)
    level: float | None = None  # of the last losses before the first jump of late
    bad_in_a_row: int = 0  # steps whose loss or gradient was not finite

    def loss_is(self, value: float, rate: float = 0.0, step: int = 0) -> None:
        self.rate = rate
        self.late.append(value)
        self.losses += 1
        if len(self.early) < LATE:
            self.early.append(value)
        level = self.reached()
        if level is not None and level < self.best:
            self.best, self.best_at, self.best_rate, self.best_step = level, self.losses, rate, step

    def learning(self) -> bool | None:
        """The loss is surely below its start, and most of what was won is kept. None: too few losses to say."""
        now = self.reached()
        if now is None or self.losses < 2 * LATE:
            return None
        start, way = statistics.median(self.early), rises(list(self.late), self.early)
        if way < -SURE and start - now >= WON * (start - self.best):
            return True
        return False if way > SURE or self.losses > SLOW_START else None

    def drifted(self) -> bool:
        """For long the loss has been far above the level it had reached, without a jump, as the rate has risen on.

        Without such a cause it is left alone: what is learned may be a moving target.
        """
        now, since = self.reached(), self.losses - self.best_at
        if now is None or since < DRIFT or since < self.best_at / 2 or self.rate < RISEN * self.best_rate:
            return False
        return self.best_rate > 0 and self.lost_ground()

    def lost_ground(self) -> bool:
        """A good part of what was won has gone since the best level."""
        now = self.reached()
        return now is not None and now - self.best > LOST * (statistics.median(self.early) - self.best) > 0

    def doubled(self) -> bool:
        """The latest loss is twice the first, or more."""
        return bool(self.early) and self.loss.latest is not None and self.loss.latest >= 2 * abs(self.early[0])

    def reached(self) -> float | None:
        return statistics.median(self.late) if len(self.late) == LATE else None

    def start_anew(self) -> None:
        """After a rollback: what was usual is so again, the wreck is forgotten."""
        self.loss, self.norm, self.bad_in_a_row, self.level = Series(), Series(), 0, None
        self.late.clear()
        self.early.clear()
        self.losses, self.best = 0, math.inf


def rises(now: Sequence[float], then: Sequence[float]) -> float:
    """By how many standard errors the usual loss has risen; below 0: it fell."""
    change = statistics.median(now) - statistics.median(then)
    spread = max(_spread(now), _spread(then)) * math.sqrt(2 / len(now))
    return change / max(spread, 1e-12 * max(1.0, abs(statistics.median(then))))


def _spread(values: Sequence[float]) -> float:
    middle = statistics.median(values)
    return statistics.median(abs(x - middle) for x in values) * 1.4826
