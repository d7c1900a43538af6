"""The heat map of the layers' outputs."""

from matplotlib.figure import Figure

from nandoctor.report.plots.events import first_bad
from nandoctor.report.plots.heat import draw_heat, height_for
from nandoctor.report.plots.series import NothingToDraw, grid, layer_points
from nandoctor.report.plots.style import dress, new_figure
from nandoctor.trace.trace import Trace


def activations(trace: Trace) -> Figure:
    """Each row is a layer in the order in which they ran, each column a step; the darker the blue, the
    larger the largest absolute value in the layer's output. Rows that darken together towards the first
    bad step speak for weights that grow; one row that darkens from top to bottom of a column speaks for an
    input or an initialization. The topmost orange or yellow cell of the first such column is the layer
    whose output went bad first.
    """
    points = layer_points(trace, "activation", "absmax")
    if not len(points.step):
        raise NothingToDraw("It holds no activation: no module was called, or --layers left all out.")
    bad = first_bad(trace)
    cells = grid(points, int(points.step.min()), int(points.step.max()))
    figure = new_figure()
    entries = draw_heat(figure, trace, cells, bad, "log10 of the largest |value|")
    return dress(figure, activations, "Activations", trace, bad, height_for(len(cells.heads)), entries)
