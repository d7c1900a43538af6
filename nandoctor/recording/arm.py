"""Install the probes: in a process of `nandoctor record`, as torch has been imported, or for a block of code."""

import os
from typing import Any

from .autopsy.incidents import Alarms
from .heap import make_room
from .probes import (
    checkpoint,
    clip,
    compiled,
    data,
    exit,
    forward,
    guards,
    loss,
    optimizer,
    overshoot,
    replicas,
    saved,
    scaler,
)
from .probes.weights import Weights
from .recorder import Recorder
from .run import Run
from .settings import Settings, from_environment
from .tracebacks import clean_uncaught, hide_hooks

_armed: list[Run] = []  # at most one: what a forked child must not go on with


def arm() -> Run:
    """Begin to record this process until it ends. Called once by recording/inject."""
    clean_uncaught()
    run, alarms = install(from_environment())
    exit.install(run, alarms)
    make_room()
    return run


def install(settings: Settings) -> tuple[Run, Alarms]:
    """Everything but what happens at the end."""
    run = Run(Recorder(settings))
    alarms = Alarms(run)
    weights = Weights(run)
    hide_hooks()
    forward.install(run, alarms, weights.units)
    if run.recorder.settings.probe:
        overshoot.install(run)  # before the optimizer's own probe: the rows of a step come before its end
    rounds = begin_treating(run)  # its first hooks come before those that measure the gradients, the others after
    optimizers = optimizer.install(run, alarms, weights)
    loss.install(run, alarms, weights, optimizers)
    scaler.install(run, alarms, optimizers)
    clip.install(run, alarms, weights)
    data.install(run, alarms)
    checkpoint.install(run)
    saved.install(run)
    guards.install(run, alarms)
    compiled.install(run, alarms)
    replicas.install(run)
    if rounds is not None:
        rounds.follow(alarms)
    return run, alarms


def begin_treating(run: Run) -> Any:
    """Active mode, where it was asked for: only then are evidence, causes and numpy loaded."""
    if not run.recorder.settings.active:
        return None
    from ..treat.rounds import begin

    return begin(run)


def off_in_forks(run: Run) -> None:
    """A block of code is recorded in its own process alone."""
    _armed[:] = [run]


def disarm() -> None:
    """Nothing of a recording that has ended may be kept alive."""
    _armed.clear()


def _forked() -> None:
    for run in _armed:
        run.recorder.guard.on = False


os.register_at_fork(after_in_child=_forked)  # once: it cannot be taken back
