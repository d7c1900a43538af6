"""The overshoot probe of `record --probe`: how much of the decrease that a step promised came true (E10), and how many
times larger the step could have been before the loss rises (E12).

At sampled steps the training forks as the model is called. The copy waits until the step is done, learns the update,
and lets the user's own code compute the loss of the same batch at moved weights, once for each factor. The training
itself is left as it was: it forks, writes its parameters into an anonymous file, and waits.
"""

import json
import math
import mmap
import os
import select
import time
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook

from ..forked.search import Pipes, read_line, serve
from ..forked.trial import OLDER
from ..forked.walls import end, fork, random_state, too_little_memory, unfit
from ..run import Run, sequence_number
from ..stats import detach, item, measurable
from .optimizer import with_closure

FIRST = 10  # steps that are all probed: a step size that is far too high fails within them
EVERY = 19  # steps between probes; prime, so that optimizers that step in turn each get their share
EVERY_IF_STEEP = 3  # after a step that overshot: the window before a failure should hold several
STEEP = 0.6  # E10: healthy runs keep 0.91 to 1 of the promise, runs with lr too high at most 0.06
MAX_FAILURES = 3  # copies that hung, died or could not repeat the loss
LIMIT_S = 5.0  # of one trial, and some times the forward pass itself for each thread that the copy lacks
LIMIT_FORWARDS = 5
ROUNDING = 32  # times eps: a promise smaller than this part of the loss is lost in its rounding
ALIGN = 64  # bytes


@dataclass
class Session:
    """One probed step."""

    step: int
    pid: int
    pipes: Pipes
    begun: int  # number of the next graph node as the model was called
    since: float
    loss: float | None = None  # first given to backward since
    nodes: int = 0
    seconds: float = 0.0
    backwards: int = 0


class Overshoot:
    def __init__(self, run: Run) -> None:
        self.run = run
        self.session: Session | None = None
        self.on = True
        self.next = 0
        self.failures = 0

    # --- in the order of a step ------------------------------------------------------------------------------
    def model_called(self) -> bool:
        """The outermost module call of the training begins. True in a forked copy that runs on to backward."""
        run = self.run
        step = run.recorder.step
        if not self.on or not torch.is_grad_enabled() or step < self.next:
            return False
        self.give_up()  # of a step that was skipped
        self.next = step + 1
        why = unfit()
        if why is not None:
            self.stop(why)
            return False
        try:
            if not too_little_memory():
                return self._fork(step)
            self.left_out("too little memory for a forked copy")
        except OSError as error:  # no process, descriptor or memory left
            self.failed(error.strerror or str(error))
        return False

    def _fork(self, step: int) -> bool:
        """True in the copy. Raises OSError."""
        state, begun = random_state(), sequence_number()
        opened: list[int] = []
        try:
            opened += os.pipe()
            opened += os.pipe()
            opened.append(os.memfd_create("nandoctor"))
            pid = fork()
        except OSError:
            for descriptor in opened:
                os.close(descriptor)
            raise
        orders, asking, answers, answering, memory = opened
        if pid == 0:
            self.session, self.on = None, False
            return serve(Pipes(orders, answering, memory), begun, state, partial(known, self.run))
        os.close(orders)
        os.close(answering)
        self.session = Session(step, pid, Pipes(asking, answers, memory), begun, time.monotonic())
        ready = self._answer(LIMIT_S)
        if ready != b"\n":
            self.failed(str(json.loads(ready)["why"]) if ready else "a forked copy did not start")
        return False

    def backward_begins(self, loss: Tensor) -> None:
        session = self.session
        if session is None:
            return
        session.backwards += 1
        if session.backwards == 1 and loss.numel() == 1:
            session.loss = float(item(detach(loss)))
            session.nodes = sequence_number() - session.begun
            session.seconds = time.monotonic() - session.since

    def step_done(self, optimizer: torch.optim.Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        session = self.session
        if session is None:
            return
        if session.loss is None or not math.isfinite(session.loss) or session.step != self.run.recorder.step:
            self.give_up()
        elif with_closure(args, kwargs) and session.backwards > 1:
            self.give_up()
            self.stop("the optimizer computes the loss several times in one step")
        else:
            found = self._ask(session, optimizer)
            self.give_up()
            self._record(found)

    def _ask(self, session: Session, optimizer: torch.optim.Optimizer) -> dict[str, Any] | None:
        asked: list[tuple[int, int, list[int]]] = []  # identity, offset, shape
        size = 0
        parameters = [
            p for group in optimizer.param_groups for p in group["params"] if p.grad is not None and p.numel()
        ]
        if not all(p.device.type == "cpu" and measurable(p) for p in parameters):
            self.stop("parameters on an accelerator or of an unusual kind")
            return None
        for parameter in parameters:
            asked.append((id(parameter), size, list(parameter.shape)))
            size += -(-parameter.numel() * parameter.element_size() // ALIGN) * ALIGN
        os.ftruncate(session.pipes.memory, max(size, ALIGN))
        held = mmap.mmap(session.pipes.memory, max(size, ALIGN))
        for parameter, (_, offset, shape) in zip(parameters, asked, strict=True):
            place = torch.frombuffer(held, dtype=parameter.dtype, count=parameter.numel(), offset=offset)
            place.view(shape).copy_(detach(parameter))
        limit = LIMIT_S + LIMIT_FORWARDS * session.seconds * torch.get_num_threads()
        order = {"parameters": asked, "loss": session.loss, "nodes": session.nodes, "limit": limit}
        try:
            with os.fdopen(os.dup(session.pipes.orders), "w") as orders:
                orders.write(json.dumps(order) + "\n")
        except BrokenPipeError:
            return None
        line = self._answer(limit * 9)  # nine trials at most
        return dict(json.loads(line)) if line else None

    def _answer(self, limit: float) -> bytes | None:
        """The next line of the copy; None if it is dead or too late."""
        assert self.session is not None
        answers = self.session.pipes.answers
        waiting = select.poll()  # select itself takes no descriptor above 1023
        waiting.register(answers, select.POLLIN)
        return (read_line(answers) or None) if waiting.poll(1e3 * limit) else None

    def give_up(self) -> None:
        """End the copy that waits, if there is one."""
        session, self.session = self.session, None
        if session is None:
            return
        for descriptor in (session.pipes.orders, session.pipes.answers, session.pipes.memory):
            os.close(descriptor)
        end(session.pid)

    # --- what came of it -------------------------------------------------------------------------------------
    def _record(self, found: dict[str, Any] | None) -> None:
        recorder = self.run.recorder
        self.next = recorder.step + 1 if recorder.step + 1 < FIRST else recorder.step + EVERY
        if found is None or "why" in found:
            why = found["why"] if found else "a forked copy hung or died"
            if why == OLDER:
                self.left_out(why)
            elif self.on:
                self.failed(why)
            return
        subject = recorder.subject("overshoot", "call")
        kept, factor = rho(found), critical_factor(found)
        if kept is not None:
            recorder.value("rho", subject, kept)
        if factor is not None:
            recorder.value("critical_factor", subject, factor)
        if kept is not None and kept <= STEEP:
            self.next = min(self.next, recorder.step + EVERY_IF_STEEP)

    def failed(self, why: str) -> None:
        self.give_up()
        self.failures += 1
        if self.failures >= MAX_FAILURES:
            self.stop(f"{MAX_FAILURES} forked copies failed, the last one because {why}")
        else:
            self.left_out(why)

    def left_out(self, why: str) -> None:
        self.run.recorder.unseen(f"the overshoot probe left out steps: {why}")

    def stop(self, why: str) -> None:
        self.on = False
        self.run.recorder.unseen(f"the overshoot probe was off from step {self.run.recorder.step} on: {why}")


def rho(found: dict[str, Any]) -> float | None:
    """Actual over promised decrease of the loss of the same batch. None where the promise is lost in rounding."""
    losses = dict(map(tuple, found["points"]))
    promised = -(found["slope"] or 0.0)
    if not promised > ROUNDING * found["eps"] * abs(losses[0.0]) or not math.isfinite(losses[1.0]):
        return None
    return float((losses[0.0] - losses[1.0]) / promised)


def critical_factor(found: dict[str, Any]) -> float | None:
    """Times the step at which the loss is back at its value before: where a parabola through the last points is.

    The ends of the search are reported as they are: 64 means 64 or more, 1/4096 means that or less.
    """
    slope = found["slope"]
    if slope is not None and not slope < 0:
        return None  # momentum led uphill on this batch: no step is small enough
    (_, start), *points = sorted(map(tuple, found["points"]))
    rising = [point for point in points if not point[1] <= start]
    falling = [point for point in points if point[1] <= start]
    if not rising or not falling:
        return float(points[0][0] if rising else points[-1][0])
    (near, low), (far, high) = falling[-1], rising[0]
    if not math.isfinite(high):
        return math.sqrt(near * far)
    bend = ((high - start) / far - (low - start) / near) / (far - near)
    fall = (low - start) / near - bend * near
    return min(max(-fall / bend, near), far) if bend > 0 else math.sqrt(near * far)


def known(run: Run) -> list[Tensor]:
    """Parameters of the models that were called so far."""
    return [
        value
        for model in run.names.models
        if (top := model.ref()) is not None
        for _, module in run.names.modules(top)
        for value in module._parameters.values()
        if value is not None
    ]


def install(run: Run) -> None:
    probe = run.overshoot = Overshoot(run)
    register_optimizer_step_post_hook(run.recorder.guard("overshoot", probe.step_done))
