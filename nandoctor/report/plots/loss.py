"""The picture of the loss."""

from dataclasses import replace

from matplotlib.figure import Figure

from nandoctor.report.plots.curves import HEIGHT, draw_curves
from nandoctor.report.plots.events import first_bad, skipped_steps
from nandoctor.report.plots.series import NothingToDraw, value_curves
from nandoctor.report.plots.style import dress, new_figure
from nandoctor.trace.trace import Trace


def loss(trace: Trace) -> Figure:
    """The loss at each backward call, before loss scaling; several calls within one step are spread over
    it. A smooth fall is health. A slow climb before the dashed line speaks for a learning rate that is too
    high or gradients that explode; a curve that is calm up to its last finite value speaks for one bad
    batch or one unsafe operation. In long runs the line is the median and the band reaches to the
    extremes.
    """
    curves = value_curves(trace, "loss")
    if not curves:
        raise NothingToDraw("It holds no loss: no backward call was seen.")
    bad = first_bad(trace)
    if len(curves) == 1:
        curves = (replace(curves[0], name=""),)
    figure = new_figure()
    entries = draw_curves(figure, trace, curves, bad, "loss", skipped_steps(trace))
    return dress(figure, loss, "Loss", trace, bad, HEIGHT, entries)
