"""nandoctor diagnose [TRACE]: what went wrong, where, and what to do."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

TraceFile = Annotated[
    Path | None, typer.Argument(metavar="TRACE", help="a trace or a spool; by default the newest one here")
]
AsJson = Annotated[bool, typer.Option("--json", help="print strict JSON by the schema of docs/contract")]
Full = Annotated[bool, typer.Option("--full", help="everything, not only what fits 40 lines")]


def diagnose(trace: TraceFile = None, as_json: AsJson = False, full: Full = False) -> None:
    """Name the cause of a recorded run's NaN, where it began, and what to change.

    Exits 0 when the run is healthy, 1 when a cause was found or something failed, 2 when it cannot be read.
    """
    from nandoctor.diagnosis import diagnose_trace
    from nandoctor.report import json, terminal
    from nandoctor.trace.open import newest_trace, open_trace

    diagnosis = diagnose_trace(open_trace(trace or newest_trace(Path.cwd())))
    text = json.render(diagnosis) if as_json else terminal.render(diagnosis, full=full, colour=_wants_colour())
    encoding = sys.stdout.encoding or "utf-8"  # a pipe may know ASCII only, a layer may be named in Greek
    print(text.encode(encoding, "replace").decode(encoding))
    raise typer.Exit(0 if diagnosis.healthy else 1)


def _wants_colour() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
