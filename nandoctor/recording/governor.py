"""How much is recorded at each step, so that nandoctor's own share of the training stays under the budget.

Loss, gradient norms, learning rates and loss scale are recorded at every step. What needs a hook on every module or a
pass over every tensor is recorded at every step in the beginning, then in bursts whenever enough of the budget has been
saved up; at every step again once an alarm says that something is wrong, and sooner while a trend rises.
"""

import math
import time
from collections.abc import Callable

from .settings import Settings

AROUND_WATCHED = 100  # steps recorded whole before and after the one of --watch-step
BURST = 2  # steps in a row of each optimizer: a cosine or a curvature needs two gradients
# what a hook costs its caller is not seen by a clock inside the hook: benchmarks/overhead.py prints whole steps beside
# the clock, 1.2 to 1.6 times as much
UNCLOCKED = 1.5
SPENDABLE = 0.7  # of the budget: what whole steps throw out of the processor's caches is paid by the steps after them
AFTER_AN_ALARM = 100  # steps recorded whole: the window that an analysis reads
RISEN = math.log(4.0)  # over the usual logarithm of the gradient norm; batches of a healthy run differ by less
SPREADS = 6.0  # of the loss above its usual level
USUAL = 0.98  # weight of the past in what is usual: about 50 steps
ADVANCE = 20  # whole steps that a rising trend may borrow from the budget to come
EVALUATED = 3  # calls of a model that are recorded at the beginning of an evaluation
ROW_BYTES = 40
DETAIL = 0.5  # of the room for what is recorded whole; the rest is for the series of the run
MOST = 2**40  # steps between two that are written


class Room:
    """Rows that may still be written: at every so many steps, twice as many after each half of what was left.

    A run of unknown length then never fills the room.
    """

    def __init__(self, rows: float) -> None:
        self.left = rows
        self.every = 1
        self._next = rows / 2

    def use(self, rows: int) -> None:
        self.left -= rows
        while self.left < self._next and self.every < MOST:
            self.every, self._next = self.every * 2, self._next / 2


class Governor:
    """`whole` says whether everything is recorded of the step that runs, `series` whether its series are written."""

    def __init__(self, settings: Settings, spent: Callable[[], float]) -> None:
        self.budget = settings.budget / 100
        self.unlimited = settings.budget <= 0 or settings.probe
        self.watch_step = settings.watch_step
        self.max_size = settings.max_size
        self.spent = spent  # seconds in our hooks since the process began
        self.whole = self.series = True
        self.thinned = False  # the first steps are over
        self.evaluating = 0  # calls of a model that are still recorded in this evaluation
        self.optimizers = 1
        self.changed: list[Callable[[bool], None]] = []  # told when `whole` changes
        self.room_for_detail = Room(settings.max_size * DETAIL / ROW_BYTES)
        self.room_for_series = Room(settings.max_size * (1 - DETAIL) / ROW_BYTES)
        self._step = self._whole_steps = 0
        self._born = time.perf_counter()
        self.whole_steps = self._until = settings.whole_steps  # whole before this step
        self._began = (0.0, 0.0)  # the clock and `spent` as the thinning began
        self._last = 0.0  # `spent` at the end of the last step
        self._cost = 0.0  # seconds of a whole step, smoothed
        self._usual: float | None = None  # logarithm of the gradient norm
        self._level: tuple[float, float] | None = None  # usual loss and its spread
        self._rising = False

    def begins_anew(self) -> None:
        """In a forked process: its first steps are recorded whole."""
        self.thinned, self._until, self._step, self._whole_steps = False, self.whole_steps, 0, 0
        self._born, self._last = time.perf_counter(), self.spent()
        self.room_for_detail = Room(self.max_size * DETAIL / ROW_BYTES)
        self.room_for_series = Room(self.max_size * (1 - DETAIL) / ROW_BYTES)
        self._set(True)

    # --- what the probes say -----------------------------------------------------------------------------------
    def alarm(self) -> None:
        """Something is not finite: what follows is recorded whole for a while."""
        self._until = max(self._until, self._step + AFTER_AN_ALARM)
        self._set(True)

    def wish(self) -> None:
        """A graph of a new shape: the next steps are worth recording, if the budget can bear them."""
        if self._saved() > -ADVANCE * self._cost:
            self._until = max(self._until, self._step + 1 + BURST * self.optimizers)

    def gradient(self, norm: float) -> None:
        """The norm of one optimizer's gradients at this step."""
        if 0 < norm < math.inf:
            size = math.log(norm)
            usual = size if self._usual is None else self._usual
            self._rising = self._rising or size - usual > RISEN
            self._usual = USUAL * usual + (1 - USUAL) * size

    def loss(self, value: float) -> None:
        if math.isfinite(value):
            usual, spread = self._level or (value, abs(value))
            self._rising = value - usual > SPREADS * spread
            away = abs(value - usual)
            self._level = USUAL * usual + (1 - USUAL) * value, USUAL * spread + (1 - USUAL) * away

    def evaluation_begins(self) -> bool:
        """A model is told to evaluate: are its next calls recorded?"""
        if not self.whole and self._saved() > -ADVANCE * self._cost:
            self.evaluating = EVALUATED
        return self.evaluating > 0

    def written(self, rows: int) -> None:
        room = self.room_for_detail if self.whole or self.evaluating else self.room_for_series
        room.use(rows)

    def account(self) -> dict[str, float]:
        """What recording took, by the clock around our hooks."""
        elapsed = time.perf_counter() - self._born
        return {"seconds": self.spent(), "elapsed": elapsed, "whole_steps": self._whole_steps, "steps": self._step}

    # --- the clock ---------------------------------------------------------------------------------------------
    def step_ends(self, step: int) -> None:
        """Decide how the step of this number is recorded."""
        self._step = step
        spent = self.spent()
        if self.whole:
            self._whole_steps += 1
            cost = spent - self._last
            self._cost = 0.8 * self._cost + 0.2 * cost if self._cost else cost
        self._last = spent
        self.series = step % self.room_for_series.every == 0
        self._set(self._decide(step))

    def _decide(self, step: int) -> bool:
        burst = BURST * self.optimizers
        every = self.room_for_detail.every
        if every > 1 and step // burst % every and step >= self._until:
            return False
        if self.unlimited or step < self.whole_steps:
            return True
        if self.watch_step is not None and abs(step - self.watch_step) <= AROUND_WATCHED:
            return True
        if not self.thinned:
            self.thinned = True
            self._began = time.perf_counter(), self.spent()
        if step >= self._until and step % self.optimizers == 0:
            advance = ADVANCE * self._cost * UNCLOCKED if self._rising else 0.0
            if self._saved() + advance > burst * self._cost * UNCLOCKED:
                self._until = step + burst
        return step < self._until

    def _saved(self) -> float:
        """Seconds of the budget that were not used since the thinning began; below 0, borrowed."""
        if not self.thinned:
            return 0.0
        began, spent = self._began
        return SPENDABLE * self.budget * (time.perf_counter() - began) - (self.spent() - spent) * UNCLOCKED

    def _set(self, whole: bool) -> None:
        if whole != self.whole:
            self.whole = whole
            for told in self.changed:
                told(whole)
