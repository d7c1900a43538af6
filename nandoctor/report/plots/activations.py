"""The heat map of the layers' outputs."""

from matplotlib.figure import Figure

from nandoctor.evidence import Bad
from nandoctor.report.plots import marks
from nandoctor.report.plots.events import first_bad
from nandoctor.report.plots.heat import bad_row, draw_heat, height_for, map_inches
from nandoctor.report.plots.series import Grid, NothingToDraw, grid, layer_points
from nandoctor.report.plots.style import dress, new_figure
from nandoctor.trace.trace import Trace


def activations(trace: Trace) -> Figure:
    """Each row is a layer in the order in which they ran, each column a step; the darker the blue, the
    larger the largest absolute value in the layer's output. Rows that darken together towards the first
    bad step speak for weights that grow; one row that darkens from top to bottom of a column speaks for an
    input or an initialization. The framed cell is the layer in which the first bad value that counts was
    born; other orange and yellow cells are how it spread, or values that did no harm. Without a frame it was
    not traced to the output of a layer: see provenance.
    """
    points = layer_points(trace, "activation", "absmax")
    if not len(points.step):
        raise NothingToDraw("It holds no activation: no module was called, or --layers left all out.")
    bad = first_bad(trace)
    cells = grid(points, int(points.step.min()), int(points.step.max()))
    figure = new_figure()
    entries = draw_heat(figure, trace, cells, bad, "log10 of the largest |value|")
    row = _born_in(trace, cells, bad)
    if bad is not None and row is not None:
        marks.frame_birth(figure.axes[0], cells, bad, row, map_inches(len(cells.heads)))
    return dress(figure, activations, "Activations", trace, bad, height_for(len(cells.heads)), entries)


def _born_in(trace: Trace, cells: Grid, bad: Bad | None) -> int | None:
    """The row to frame: an incident, not only the order of the rows, names a layer's output as the birth."""
    if bad is None or bad.phase not in ("forward", "loss") or not trace.notes_of("incident"):
        return None
    return bad_row(cells, bad)
