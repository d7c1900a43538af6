"""nandoctor plot WHAT [TRACE] [-o FILE]"""

import logging
import os
import warnings
from pathlib import Path
from types import ModuleType
from typing import Annotated

import typer

from nandoctor import errors_plot

FORMATS = ("png", "svg", "pdf")
WHAT_HELP = "grad-norm, loss, activations, lr, weights, updates or provenance"
READ_TO_KNOW = 1 << 16  # bytes at both ends of a file: our name stands in its metadata there

What = Annotated[str, typer.Argument(metavar="WHAT", help=WHAT_HELP)]
TraceFile = Annotated[Path | None, typer.Argument(metavar="TRACE", help="a trace; the newest here by default")]
Output = Annotated[
    Path | None, typer.Option("-o", "--output", help="file to write: .png, .svg or .pdf; WHAT.png by default")
]


def plot(what: What, trace: TraceFile = None, output: Output = None) -> None:
    """Draw one picture of a recorded run and print the name of the file.

    Each picture marks the first bad step and says below it how to read it.
    """
    target = output or Path(f"{what}.png")
    ending = target.suffix[1:].lower()
    pictures = _pictures()
    if what not in pictures.PLOTS:
        raise errors_plot.unknown_picture(what, ", ".join(pictures.PLOTS))
    if ending not in FORMATS:
        raise errors_plot.unknown_picture_format(str(target), target.suffix)
    if target.exists() and not _ours(target):
        raise errors_plot.not_my_picture(str(target))

    from nandoctor.evidence import ranks
    from nandoctor.trace.ranks import RankTraces, opened

    found = opened(trace)
    source = trace if trace is not None else found.path
    # of several ranks the one that diagnose tells of; its name stands in the picture
    recorded = found.traces[ranks.gather(found.traces, found.world).first] if isinstance(found, RankTraces) else found
    try:
        picture = pictures.render(pictures.draw(what, recorded), ending)
    except pictures.NothingToDraw as lack:
        raise errors_plot.nothing_to_draw(what, str(source), lack.missing) from None
    try:
        target.write_bytes(picture)
    except OSError as error:
        raise errors_plot.picture_not_written(str(target), error.strerror or str(error)) from None
    typer.echo(os.fsencode(target))


def _pictures() -> ModuleType:
    """The pictures, with matplotlib kept from needing a screen, a home or the user's settings."""
    os.environ["MPLBACKEND"] = "agg"  # the one that is set may not even be installed here
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # a home that cannot be written is no news for a plot
    warnings.filterwarnings("ignore", module="matplotlib")
    from nandoctor.report import plots

    return plots


def _ours(target: Path) -> bool:
    """Whether we wrote that file: our name stands in its metadata. An empty file is nobody's."""
    if target.is_dir():
        raise errors_plot.picture_not_written(str(target), "it is a folder")
    try:
        with target.open("rb") as file:
            ends = file.read(READ_TO_KNOW)
            file.seek(max(0, target.stat().st_size - READ_TO_KNOW))
            ends += file.read(READ_TO_KNOW)
    except OSError as error:
        raise errors_plot.picture_not_written(str(target), error.strerror or str(error)) from None
    return not ends or b"nandoctor plot" in ends
