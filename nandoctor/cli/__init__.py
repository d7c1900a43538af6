"""The commands. Each is imported when it is called; UserError is printed here and nowhere else."""

import sys
from collections.abc import Sequence
from importlib import import_module

from nandoctor.errors import UserError

COMMANDS = {  # one file each, with a function of that name; the line of `nandoctor --help`
    "record": "Run a training as it is and record it into a trace.",
    "treat": "Record a training and cure it while it runs: record --active.",
    "diagnose": "Name the cause of its NaN, where it began, and what to change.",
    "plot": "Draw one picture of a trace: loss, grad-norm, activations, ...",
    "show": "Print what a trace holds, or its rows.",
    "explain": "Print the page of a cause, or the list of all causes.",
}
OPTIONS_OF = {"record": "[OPTIONS] --", "treat": "[OPTIONS] --"}  # how its usage line tells options from the command


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return the exit code."""
    try:
        if arguments[:1] in (["record"], ["treat"]) and not asks_for_help(arguments[1:]):
            from nandoctor.cli.record_arguments import read
            from nandoctor.cli.record_start import start

            return start(read(arguments[1:], active=arguments[0] == "treat"))
        return run_typer(arguments)
    except UserError as error:
        sys.stdout.flush()
        print(error, file=sys.stderr)
        return error.exit_code


def asks_for_help(options: Sequence[str]) -> bool:
    """Before the two dashes: a --help behind them is the training's."""
    own = options[: options.index("--")] if "--" in options else options
    return "--help" in own


def run_typer(arguments: Sequence[str]) -> int:
    import typer

    from nandoctor.version import VERSION

    app = typer.Typer(
        name="nandoctor", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, 
        rich_markup_mode=None,  # typer's boxes name a type, <bool>, for options that take no value
        help="Records a PyTorch training and names the cause of its NaN: record it, then diagnose it.",
    )  # fmt: skip

    def show_version(wanted: bool) -> None:
        if wanted:
            print(f"nandoctor {VERSION}")
            raise typer.Exit()

    @app.callback()
    def nandoctor(
        version: bool = typer.Option(
            False, "--version", callback=show_version, is_eager=True, help="print the version"
        ),
    ) -> None:
        pass

    called = [name for name in COMMANDS if name in arguments[:1]]
    for name in called or COMMANDS:
        usage = OPTIONS_OF.get(name, "[OPTIONS]")
        app.command(name, short_help=COMMANDS[name], options_metavar=usage)(
            getattr(import_module(f"nandoctor.cli.{name}"), name)
        )
    try:
        app(args=list(arguments), prog_name="nandoctor")
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else 1
    return 0
