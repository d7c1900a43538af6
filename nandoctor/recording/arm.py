"""torch has just been imported: read the settings and install the probes."""

import os
from typing import Any

from .autopsy.incidents import Alarms
from .probes import checkpoint, clip, compiled, data, exit, forward, guards, loss, optimizer, overshoot, saved, scaler
from .probes.weights import Weights
from .recorder import Recorder
from .run import Run
from .settings import from_environment
from .tracebacks import clean_uncaught, hide_hooks


def arm() -> Run:
    """Begin to record this process. Called once by recording/inject."""
    run = Run(Recorder(from_environment()))
    alarms = Alarms(run)
    weights = Weights(run)
    clean_uncaught()
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
    exit.install(run, alarms)
    compiled.install(run, alarms)
    if rounds is not None:
        rounds.follow(alarms)
    os.register_at_fork(after_in_child=lambda: setattr(run.recorder.guard, "on", False))
    return run


def begin_treating(run: Run) -> Any:
    """Active mode, where it was asked for: only then are evidence, causes and numpy loaded."""
    if not run.recorder.settings.active:
        return None
    from ..treat.rounds import begin

    return begin(run)
