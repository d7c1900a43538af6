"""nandoctor diagnose [TRACE [AGAIN]]: what went wrong, where, and what to do."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from nandoctor.diagnosis import Diagnosis

TraceFile = Annotated[
    Path | None,
    typer.Argument(metavar="TRACE", help="a trace, a spool or a folder of ranks, by default the newest here; or a log"),
]
Again = Annotated[
    Path | None, typer.Argument(metavar="AGAIN", help="a second recording of the same command: is it reproducible?")
]
AsJson = Annotated[bool, typer.Option("--json", help="print strict JSON by the schema of docs/contract")]
Full = Annotated[bool, typer.Option("--full", help="everything, not only what fits 40 lines")]
Muted = Annotated[list[str] | None, typer.Option("--mute", metavar="ID", help="leave out this cause; repeatable")]

AsPatch = Annotated[bool, typer.Option("--patch", help="print a diff of the script that makes the cure permanent")]


def diagnose(
    trace: TraceFile = None,
    again: Again = None,
    as_json: AsJson = False,
    full: Full = False,
    mute: Muted = None,
    patch: AsPatch = False,
) -> None:
    """Name the cause of a recorded run's NaN, where it began, and what to change.

    Exits 0 when the run is healthy, 1 when a cause was found or something failed, 2 when it cannot be read.
    Of two recordings: 0 when both are healthy and the run is reproducible, 1 when not.
    Of a log and a recording: did what the log shows come again while it was recorded?
    """
    from nandoctor.diagnosis import known_causes
    from nandoctor.diagnosis_path import diagnose_path
    from nandoctor.report import json, terminal

    muted = known_causes(mute or ())
    if trace is not None and again is not None:
        diagnosis = _beside_log(trace, again, muted)
        if diagnosis is None:
            raise typer.Exit(_compare(trace, again, as_json, full, muted))
    else:
        diagnosis = diagnose_path(trace, muted)
    if patch:
        _say_patch(diagnosis)
        raise typer.Exit(0 if diagnosis.healthy else 1)
    text = json.render(diagnosis) if as_json else terminal.render(diagnosis, full=full, colour=_wants_colour())
    _say(text)
    raise typer.Exit(0 if diagnosis.healthy else 1)


def _beside_log(first: Path, second: Path, muted: frozenset[str]) -> "Diagnosis | None":
    """Of a log and a recording, in either order; None for two recordings."""
    from nandoctor.errors_compare import two_logs
    from nandoctor.logs.sniff import is_log
    from nandoctor.observed import observed
    from nandoctor.trace.open import open_trace

    logs = [path for path in (first, second) if is_log(path)]
    if not logs:
        return None
    if len(logs) == 2:
        raise two_logs(str(first), str(second))
    return observed(logs[0], open_trace(second if logs[0] is first else first), muted)


def _compare(trace: Path, again: Path, as_json: bool, full: bool, muted: frozenset[str]) -> int:
    from nandoctor.comparison import compare
    from nandoctor.errors import ranks_not_compared
    from nandoctor.report import comparison
    from nandoctor.trace.open import open_trace
    from nandoctor.trace.ranks import is_rank_folder

    for path in (trace, again):
        if is_rank_folder(path):
            raise ranks_not_compared(str(path))
    found = compare(open_trace(trace), open_trace(again), muted)
    _say(comparison.render_json(found) if as_json else comparison.render(found, full=full, colour=_wants_colour()))
    return 0 if found.healthy else 1


def _say(text: str) -> None:
    encoding = sys.stdout.encoding or "utf-8"  # a pipe may know ASCII only, a layer may be named in Greek
    print(text.encode(encoding, "replace").decode(encoding))


def _say_patch(diagnosis: "Diagnosis") -> None:
    """The diff on stdout, for `patch -p0`; what is to be done by hand on stderr."""
    from nandoctor.patching.patch import patch
    from nandoctor.report.plain import plain

    found = patch(diagnosis, Path.cwd())
    if found.diff:
        print(found.diff, end="")
    elif not found.by_hand:
        print("nandoctor: nothing to change: no cause was found in this run", file=sys.stderr)
    if found.by_hand:
        print("nandoctor: no line of the script is known for this; by hand:", file=sys.stderr)
        for text in found.by_hand:
            for line in text.splitlines():
                print(f"  {plain(line, 400)}", file=sys.stderr)


def _wants_colour() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
