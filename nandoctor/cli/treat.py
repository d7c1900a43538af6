"""nandoctor treat [OPTIONS] -- COMMAND...: record --active by its own name."""

from nandoctor.cli.record import (
    Command,
    Ladder,
    Layers,
    MaxActions,
    Output,
    Policy,
    Probe,
    Quiet,
    Treat,
    WatchStep,
    record,
)
from nandoctor.launch.request import DEFAULT_OUTPUT


def treat(
    command: Command = None,
    output: Output = DEFAULT_OUTPUT,
    layers: Layers = None,
    watch_step: WatchStep = None,
    probe: Probe = False,
    policy: Policy = "repair",
    treat: Treat = "",
    max_actions: MaxActions = None,
    ladder: Ladder = "measured",
    quiet: Quiet = False,
) -> None:
    """Run a training as it is, record it, and cure it while it runs.

    Every action is one line on stderr and a mark in the trace; `nandoctor diagnose --patch` makes the cure permanent.
    """
    record(command, output, layers, watch_step, probe, True, policy, treat, max_actions, ladder, quiet)
