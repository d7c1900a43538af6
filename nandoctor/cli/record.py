"""nandoctor record [OPTIONS] -- COMMAND..."""

from typing import Annotated

import typer

from nandoctor.cli.record_arguments import BUDGET, MAX_SIZE, WHOLE_STEPS, size
from nandoctor.cli.record_start import start
from nandoctor.launch.request import DEFAULT_OUTPUT, Request

Command = Annotated[
    list[str] | None,
    typer.Argument(metavar="COMMAND", help="the training, as you would type it", show_default=False),
]
Output = Annotated[
    str,
    typer.Option("-o", "--output", metavar="FILE", help="the trace; if there is one, run.2.parquet ..."),
]
Layers = Annotated[
    str | None,
    typer.Option("--layers", metavar="REGEX", help="record the tensors of these layers only"),
]
WatchStep = Annotated[
    int | None,
    typer.Option("--watch-step", metavar="N", help="watch every operation around step N (slow)"),
]
Probe = Annotated[
    bool,
    typer.Option(
        "--probe",
        help="repeat the forward pass of some steps at moved weights, for a surer verdict (slower): what your script "
        "does between the model's call and backward runs again in forked copies, which cannot write files",
    ),
]
Budget = Annotated[
    float,
    typer.Option("--budget", metavar="PERCENT", help="of the training's time for recording; 0: all of every step"),
]
WholeSteps = Annotated[
    int,
    typer.Option("--whole-steps", metavar="N", help="steps recorded whole before the budget counts"),
]
MaxSize = Annotated[
    str,
    typer.Option("--max-size", metavar="SIZE", help="of what is written, however long the run: 64M, 1G"),
]
Active = Annotated[
    bool, typer.Option("--active", help="treat what goes wrong while the training runs (docs/active.md)")
]
Policy = Annotated[
    str,
    typer.Option(
        "--policy", metavar="repair|skip|advise", help="repair a bad step, leave it out, or only say what to do"
    ),
]
Treat = Annotated[str, typer.Option("--treat", metavar="NAME,NAME", help="use these treatments only")]
MaxActions = Annotated[int | None, typer.Option("--max-actions", metavar="N", help="apply at most N treatments")]
Ladder = Annotated[
    str,
    typer.Option("--ladder", metavar="measured|documents", help="what measures best, or what the documents prescribe"),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="print nothing but errors")]
Recover = Annotated[
    str | None,
    typer.Option("--recover", metavar="SPOOL", help="finish the spool that a killed recording left behind"),
]


def record(
    command: Command = None,
    output: Output = DEFAULT_OUTPUT,
    layers: Layers = None,
    watch_step: WatchStep = None,
    probe: Probe = False,
    budget: Budget = BUDGET,
    whole_steps: WholeSteps = WHOLE_STEPS,
    max_size: MaxSize = MAX_SIZE,
    active: Active = False,
    policy: Policy = "repair",
    treat: Treat = "",
    max_actions: MaxActions = None,
    ladder: Ladder = "measured",
    quiet: Quiet = False,
    recover: Recover = None,
) -> None:
    """Run a training as it is and record it into a trace.

    The training's output, signals and exit code pass through unchanged; nandoctor speaks on stderr.
    """
    names = tuple(name for name in treat.split(",") if name)
    request = Request(
        tuple(command or ()), output, layers, watch_step, quiet, probe, budget, whole_steps, size(max_size),
        active, policy, names, max_actions, ladder,
    )  # fmt: skip
    raise typer.Exit(start(recover or request))
