"""One magnitude per layer over time: as lines while they can be told apart, as a heat map beyond that."""

from collections.abc import Callable
from dataclasses import replace

from matplotlib.figure import Figure

from nandoctor.report.plots.curves import HEIGHT, MOST_LINES, draw_curves
from nandoctor.report.plots.events import first_bad
from nandoctor.report.plots.heat import draw_heat, height_for
from nandoctor.report.plots.series import Points, grid, points_as_curves
from nandoctor.report.plots.style import dress, new_figure
from nandoctor.report.plots.wording import layer_name
from nandoctor.trace.trace import Trace


def draw_layers(picture: Callable[[Trace], Figure], title: str, trace: Trace, points: Points, label: str) -> Figure:
    bad = first_bad(trace)
    figure = new_figure()
    if len(points.layers) <= MOST_LINES:
        curves = [replace(curve, name=layer_name(curve.name)) for curve in points_as_curves(points)]
        entries = draw_curves(figure, trace, curves, bad, label)
        return dress(figure, picture, title, trace, bad, HEIGHT, entries)
    cells = grid(points, int(points.step.min()), int(points.step.max()))
    entries = draw_heat(figure, trace, cells, bad, f"log10 of the {label}")
    return dress(figure, picture, title, trace, bad, height_for(len(cells.heads)), entries)
