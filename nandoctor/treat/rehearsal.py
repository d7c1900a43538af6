"""A choice is rehearsed: forked copies of the training run on, each with one candidate, and tell their losses.

The copies stand behind the walls of recording/forked, and end before they come far. Data, random numbers and weights
are those that the training itself will meet, so that losses are compared pair by pair. Where a process cannot be
forked safely nothing is rehearsed, and the choice is made by arithmetic alone.
"""

import atexit
import json
import math
import multiprocessing
import os
import select
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from ..recording.forked.walls import (
    apart,
    end,
    end_in,
    forbid,
    fork,
    random_state,
    same_random,
    too_little_memory,
    unfit,
)
from ..recording.recorder import Recorder

STEPS = 50  # that a copy runs: what a learning rate is worth shows in its trend, not in its next step
LEAST = 10  # fewer say nothing
LAST = 0.3  # of a copy's steps: their losses are compared
START_S = 5.0  # for the fork itself
SLOWER = 6.0  # times the usual time of a step, after which a copy counts as hung
BUDGET_S, BUDGET_SHARE = 20.0, 1.0  # of all rehearsals, beside what the training took so far
SURE = 1.0  # standard errors
MOST, SMALLEST = 7, 1e-5  # candidates of one choice, before the last two; the least of them
CHILDREN = "/proc/self/task/{}/children"


class Silent:
    """Stands for the writer of the spool in a copy."""

    lost = None

    def rows(self, packed: bytes) -> None:
        return None

    def note(self, kind: str, /, **fields: object) -> None:
        return None


@dataclass
class Copy:
    """In a forked copy: the losses so far, and where they are told."""

    report: int
    steps: int
    losses: list[float] = field(default_factory=list)

    def loss_seen(self, loss: float | None) -> None:
        """A step is about to be taken."""
        if loss is not None:
            self.losses.append(loss)
        if len(self.losses) >= self.steps or (loss is not None and not math.isfinite(loss)):
            self.leave()

    def leave(self, *_: object) -> None:
        try:
            os.write(self.report, json.dumps(self.losses).encode() + b"\n")
        finally:
            os._exit(0)


@dataclass
class Rehearsal:
    """What it may cost, and the copies of one choice."""

    recorder: Recorder
    begun: tuple[float, float] | None = None  # CPU and wall time at the first step: loading before it tells nothing
    spent: float = 0.0  # seconds of CPU time, of the copies
    waited: float = 0.0  # seconds
    copy: Copy | None = None  # only in a forked copy
    refused: str = ""

    def step_begins(self) -> None:
        if self.begun is None:
            self.begun = time.process_time(), time.monotonic()

    def possible(self) -> bool:
        if self.copy is not None or self.begun is None:
            return False
        try:
            self.refused = unfit() or ("it has child processes" if has_children() else "")
            if not self.refused and too_little_memory():
                self.refused = "too little memory for a forked copy"
            return not self.refused
        except OSError as error:
            self.refused = str(error)
            return False

    def steps(self) -> int:
        """How many can be afforded."""
        left = BUDGET_S + BUDGET_SHARE * self.trained() - self.spent
        return min(STEPS, int(left / self.step_s()))

    def trained(self) -> float:
        """Seconds of CPU time: others on this machine do not count."""
        return time.process_time() - (self.begun or (0.0, 0.0))[0]

    def step_s(self) -> float:
        return max(self.trained() / max(self.recorder.step, 1), 1e-3)

    def patience(self, steps: int) -> float:
        """Seconds after which a copy counts as hung."""
        lasted = time.monotonic() - (self.begun or (0.0, 0.0))[1] - self.waited
        return START_S + SLOWER * steps * max(lasted / max(self.recorder.step, 1), self.step_s())

    def losses(self, candidate: Callable[[], object]) -> list[float] | None:
        """Of the steps to come. None: not rehearsed, or this is the copy, in which the candidate was called."""
        if not self.possible():
            if self.copy is None:
                self.recorder.unseen(f"nothing was rehearsed: {self.refused}")
            return None
        steps = self.steps()
        if steps < LEAST:
            self.recorder.unseen("nothing more was rehearsed: it would take too long")
            return None
        began, used = time.monotonic(), children_s()
        try:
            return self._one(candidate, steps)
        finally:
            self.waited += time.monotonic() - began
            self.spent += children_s() - used

    def _one(self, candidate: Callable[[], object], steps: int) -> list[float] | None:
        """None in the copy, or where none could be made."""
        limit = self.patience(steps)
        state = random_state()
        reading, writing = os.pipe()
        try:
            pid = fork()
        except OSError:
            os.close(reading)
            os.close(writing)
            return None
        if pid == 0:
            self._begin_copy(Copy(writing, steps), state, limit, candidate)
            return None
        os.close(writing)
        try:
            return heard(reading, limit)
        finally:
            os.close(reading)
            end(pid)

    def _begin_copy(self, copy: Copy, state: object, limit: float, candidate: Callable[[], object]) -> None:
        try:
            self.copy = copy
            apart((copy.report,))
            end_in(limit)
            self.recorder.guard.on = True  # recording/children.py switched it off
            self.recorder.tap = None
            self.recorder.writer = Silent()  # type: ignore[assignment]
            atexit.register(copy.leave)  # the program may end in the copy: ours is called before any other
            same_random(state)
            candidate()
            forbid(copy.leave)
        except BaseException:
            os._exit(1)


def search(
    rehearsal: Rehearsal, take: Callable[[float], None], far: float, lower: Callable[[list[float]], bool] | None = None
) -> dict[float, list[float]] | None:
    """Losses by multiples of a figure: outwards from 1 by `far` while it gets better, then halfway to both sides.

    `lower` looks at the losses of the figure as it is: may a smaller one be asked for at all?

    None where nothing was compared, and in each copy: `take` was called there, and it goes on with the training.
    """
    found: dict[float, list[float]] = {}

    def heard_of(times: float) -> bool:
        if times not in found:
            losses = rehearsal.losses(partial(take, times))
            if losses is None:
                return False
            found[times] = losses
        return True

    asked = [1.0, far, 1 / far]
    halfway, down = False, True
    if lower is not None:
        if not heard_of(1.0):
            return None
        down = lower(found[1.0])
    while asked:
        asked = [times for times in asked if down or times >= 1]
        if not all(heard_of(times) for times in asked):
            return found if rehearsal.copy is None and len(found) > 2 else None
        asked = []
        best = best_of(found)
        if best is None:  # all were lost
            asked = [min(found) / far**2] if min(found) > SMALLEST else []
        elif best > 1 and found[best] == found.get(best / far):
            asked = []  # a bound was reached: beyond it every size is the same
        elif best in (max(found), min(found)) and best != 1.0 and len(found) < MOST:
            asked = [best * far if best > 1 else best / far]
        elif not halfway:
            asked, halfway = [best * math.sqrt(far), best / math.sqrt(far)], True
    return found


def heard(reading: int, limit: float) -> list[float]:
    """The line of a copy; empty if it hung or died."""
    said, until = b"", time.monotonic() + limit
    waiting = select.poll()
    waiting.register(reading, select.POLLIN)
    while not said.endswith(b"\n"):
        left = until - time.monotonic()
        part = os.read(reading, 1 << 16) if left > 0 and waiting.poll(1e3 * left) else b""
        if not part:
            return []
        said += part
    return [float(loss) for loss in json.loads(said)]


def children_s() -> float:
    """CPU time of the child processes that have ended."""
    times = os.times()
    return times.children_user + times.children_system


def has_children() -> bool:
    """Workers of a DataLoader among them: batches that a copy drew would be lost to the training."""
    pid = os.getpid()
    try:
        with open(CHILDREN.format(pid), "rb") as file:
            return bool(file.read().strip())
    except OSError:  # a kernel without it
        return bool(multiprocessing.active_children())


def best_of(found: Mapping[float, Sequence[float]]) -> float | None:
    """The largest step that is not surely worse than the best: over a short time small steps seem better than they are.

    Judged by the losses at the end of what all reached; those that were lost do not count.
    """
    ends = ends_of({times: losses for times, losses in found.items() if sound(losses)})
    if not ends:
        return None
    best = min(ends, key=lambda times: statistics.fmean(ends[times]))
    return max(times for times in ends if times == best or behind(ends[times], ends[best]) <= SURE)


def sound(losses: Sequence[float]) -> bool:
    return len(losses) >= LEAST and all(map(math.isfinite, losses))


def ends_of(found: Mapping[float, Sequence[float]]) -> dict[float, list[float]]:
    """The last losses of what all of them reached."""
    reached = min((len(losses) for losses in found.values()), default=0)
    last = max(3, int(LAST * reached))
    return {name: list(losses[reached - last : reached]) for name, losses in found.items()}


def behind(these: Sequence[float], those: Sequence[float]) -> float:
    """By how many standard errors these losses are higher than those of the same batches."""
    more = [a - b for a, b in zip(these, those, strict=True)]
    spread = statistics.stdev(more) / math.sqrt(len(more))
    return statistics.fmean(more) / max(spread, 1e-12)
