"""The forked copy that waits at the model's call, learns the update, and sends out one trial after another (E10, E12).

It never returns to the user's code. Orders and answers are one JSON line each, through pipes.
"""

import gc
import json
import math
import mmap
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .trial import LEFT, Trial, run_on
from .walls import apart, end_in, end_with_parent, fork

# by four: 4 and 16 decide (E12), a parabola tells what lies between, and each trial costs a fork and a forward pass
LARGER = (4.0, 16.0, 64.0)  # times a healthy step can be taken: 64 [16..256]
SMALLER = tuple(4.0**-power for power in range(1, 7))  # below 1e-3 the point itself is broken
SAME = 1e-3  # the loss of a repetition at the same weights: other thread counts change its rounding, a batch more
ROUNDING = 8  # times eps of the loss: what repetition of one sum may differ by


@dataclass(frozen=True)
class Pipes:
    """Descriptors of one end of the conversation."""

    orders: int
    answers: int
    memory: int  # holds the parameters after the step


def serve(pipes: Pipes, begun: int, state: Any, known: Callable[[], list[Tensor]]) -> bool:
    """True in a trial, which must return to the user's code; the search itself ends here."""
    trial = False
    try:
        apart((pipes.orders, pipes.answers, pipes.memory))
        os.write(pipes.answers, b"\n")  # the parent may go on: what the two share was copied
        line = read_line(pipes.orders)
        if line:
            trial = carry_out(json.loads(line), pipes, begun, state, known)
    except BaseException as error:
        _say(pipes.answers, {"why": f"{type(error).__name__}: {error}"[:200]})
    finally:
        if not trial:
            os._exit(0)
    return True


def carry_out(asked: dict[str, Any], pipes: Pipes, begun: int, state: Any, known: Callable[[], list[Tensor]]) -> bool:
    """True in a trial."""
    moved = parameters(asked["parameters"], pipes.memory, known)
    trials: list[int] = []  # they have reported, and take their time to end

    def measure(factor: float) -> dict[str, Any] | None:
        """What a trial reports; None in the trial itself."""
        reading, writing = os.pipe()
        pid = fork()
        if pid == 0:
            try:
                end_with_parent()
                end_in(asked["limit"])
                run_on(Trial(factor, moved, asked["nodes"], begun, state, writing))
            except BaseException:
                os._exit(1)
            return None
        os.close(writing)
        said = read_line(reading)
        os.close(reading)
        trials.append(pid)
        if not said:
            os.waitpid(trials.pop(), 0)
        return dict(json.loads(said)) if said else {"why": "a forked copy hung or died"}

    found = search(measure, asked["loss"])
    if found is None:
        return True
    _say(pipes.answers, found)
    for pid in trials:
        os.waitpid(pid, 0)
    return False


def _say(answers: int, found: dict[str, Any]) -> None:
    try:
        os.write(answers, json.dumps(found).encode() + b"\n")
    except OSError:
        pass  # the training has given it up


def parameters(asked: list[list[Any]], memory: int, known: Callable[[], list[Tensor]]) -> list[tuple[Tensor, Tensor]]:
    """The parameters, named by their identity in the parent, and their values after the step."""
    here = {id(tensor): tensor for tensor in known()}
    if any(identity not in here for identity, *_ in asked):  # the optimizer's first step, or weights without a module
        here.update((id(thing), thing) for thing in gc.get_objects() if issubclass(type(thing), Tensor))
    size = os.fstat(memory).st_size
    held = mmap.mmap(memory, size, flags=mmap.MAP_PRIVATE)
    found = []
    for identity, offset, shape in asked:  # as the parent wrote them
        parameter = here[identity]
        if list(parameter.shape) != shape:
            raise ValueError("a parameter has another shape")
        after = torch.frombuffer(held, dtype=parameter.dtype, count=parameter.numel(), offset=offset)
        found.append((parameter, after.view(parameter.shape)))
    return found


def search(measure: Callable[[float], dict[str, Any] | None], loss: float) -> dict[str, Any] | None:
    """Points [factor, loss] along the update: 0 and 1, then outwards until the loss rises, or inwards until not."""
    start = measure(0.0)
    if start is None or "loss" not in start:
        return start
    base = start["loss"]
    noise = ROUNDING * start["eps"] * abs(base)
    if not abs(base - loss) <= max(SAME * abs(loss), noise):
        return {"why": f"a repetition gave a loss of {base:.6g} instead of {loss:.6g}"}
    points: list[list[float]] = [[0.0, base]]
    factor: float | None = 1.0
    rest: Iterator[float] | None = None
    rose_first = False
    while factor is not None:
        said = measure(factor)
        if said is None:
            return None
        if said.get("why", LEFT) != LEFT:  # a guard of the program that turns away from a bad loss is an answer
            return {**start, "points": points, "why": said["why"]}
        points.append([factor, said.get("loss", math.inf)])
        rises = not points[-1][1] <= base + noise
        if rest is None:
            rose_first, rest = rises, iter(SMALLER if rises else LARGER)
        elif rises != rose_first:
            break
        factor = next(rest, None)
    return {**start, "points": points}


def read_line(descriptor: int) -> bytes:
    """Up to a newline or the end."""
    found = b""
    while not found.endswith(b"\n"):
        part = os.read(descriptor, 1 << 16)
        if not part:
            break
        found += part
    return found
