"""nandoctor show [TRACE]: what a trace holds, or its rows."""

import sys
from pathlib import Path
from typing import Annotated

import typer

TraceFile = Annotated[
    Path | None,
    typer.Argument(metavar="TRACE", help="a trace, a spool or a folder of ranks; the newest here by default"),
]
Step = Annotated[
    str | None,
    typer.Option(metavar="A:B", help="rows of the steps A to B, both included; A, A: and :B work, too"),
]
Layer = Annotated[str | None, typer.Option(metavar="GLOB", help="rows of the layers that match, 'blocks.3.*'")]
Kind = Annotated[list[str] | None, typer.Option(metavar="KIND", help="rows of this kind; may be repeated")]
Limit = Annotated[int, typer.Option(metavar="N", min=1, help="at most so many rows")]


def show(
    trace: TraceFile = None, step: Step = None, layer: Layer = None, kind: Kind = None, limit: Limit = 100
) -> None:
    """Print what a trace holds; with --step, --layer or --kind, its rows in order of time."""
    from nandoctor.cli.show_ranks import ranks_rows_text, ranks_text
    from nandoctor.cli.show_rows import Filter, rows_text
    from nandoctor.cli.show_summary import summary_text
    from nandoctor.trace.ranks import RankTraces, opened

    wanted = Filter.of(step, layer, kind)  # first: a mistyped filter must not cost a long wait
    found = opened(trace)
    if isinstance(found, RankTraces):
        text = ranks_rows_text(found, wanted, limit) if wanted else ranks_text(found)
    else:
        text = rows_text(found, wanted, limit) if wanted else summary_text(found)
    encoding = sys.stdout.encoding or "utf-8"  # a pipe may know ASCII only, a layer may be named in Greek
    typer.echo(text.encode(encoding, "replace").decode(encoding))
