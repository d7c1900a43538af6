"""Pictures of a trace. One file per picture; each drawing function's docstring says how to read it."""

import io
from collections.abc import Callable

from matplotlib.figure import Figure

from nandoctor.report.plots import style
from nandoctor.report.plots.activations import activations
from nandoctor.report.plots.grad_norm import grad_norm
from nandoctor.report.plots.learning_rate import learning_rate
from nandoctor.report.plots.loss import loss
from nandoctor.report.plots.provenance import provenance
from nandoctor.report.plots.series import NothingToDraw
from nandoctor.report.plots.updates import updates
from nandoctor.report.plots.weights import weights
from nandoctor.trace.trace import Trace

PLOTS: dict[str, Callable[[Trace], Figure]] = {
    "grad-norm": grad_norm,
    "loss": loss,
    "activations": activations,
    "lr": learning_rate,
    "weights": weights,
    "updates": updates,
    "provenance": provenance,
}

__all__ = ["PLOTS", "NothingToDraw", "draw", "render"]

_METADATA: dict[
    str, dict[str, str | None]
] = {  # no date: the same trace gives the same file; cli/plot.py knows our files by our name
    "png": {"Software": "nandoctor plot"},
    "svg": {"Creator": "nandoctor plot", "Date": None},
    "pdf": {"Creator": "nandoctor plot", "CreationDate": None},
}


def draw(what: str, trace: Trace) -> Figure:
    """The picture as a matplotlib figure. Raises NothingToDraw where the trace lacks its rows."""
    with style.applied():
        return PLOTS[what](trace)


def render(figure: Figure, file_format: str) -> bytes:
    """The figure as a png, svg or pdf file."""
    with style.applied(), io.BytesIO() as file:
        style.settle(figure)
        figure.savefig(file, format=file_format, metadata=_METADATA[file_format])
        return file.getvalue()
