"""nandoctor treat [OPTIONS] -- COMMAND...: record --active by its own name."""

from nandoctor.cli.record import (
    Budget,
    Command,
    Ladder,
    Layers,
    MaxActions,
    MaxSize,
    Output,
    Policy,
    Probe,
    Quiet,
    Treat,
    WatchStep,
    WholeSteps,
    record,
)
from nandoctor.cli.record_arguments import BUDGET, MAX_SIZE, WHOLE_STEPS
from nandoctor.launch.request import DEFAULT_OUTPUT


def treat(
    command: Command = None,
    output: Output = DEFAULT_OUTPUT,
    layers: Layers = None,
    watch_step: WatchStep = None,
    probe: Probe = False,
    budget: Budget = BUDGET,
    whole_steps: WholeSteps = WHOLE_STEPS,
    max_size: MaxSize = MAX_SIZE,
    policy: Policy = "repair",
    treat: Treat = "",
    max_actions: MaxActions = None,
    ladder: Ladder = "measured",
    quiet: Quiet = False,
) -> None:
    """Run a training as it is, record it, and cure it while it runs.

    Every action is one line on stderr and a mark in the trace; `nandoctor diagnose --patch` makes the cure permanent.
    """
    record(
        command, output, layers, watch_step, probe, budget, whole_steps, max_size,
        True, policy, treat, max_actions, ladder, quiet,
    )  # fmt: skip
