"""The picture of the weights' size."""

from matplotlib.figure import Figure

from nandoctor.report.plots.layers import draw_layers
from nandoctor.report.plots.series import NothingToDraw, parameters
from nandoctor.trace.trace import Trace


def weights(trace: Trace) -> Figure:
    """The L2 norm of all parameters of each layer after each step. Healthy weights drift; a layer whose
    norm doubles within a few steps is driven by steps that are too large, and one that is far from its
    neighbours at step 0 was initialised that way. From the first NaN on, a weight stays NaN: nothing after
    it can be trusted.
    """
    points = parameters(trace, "weight")
    if not len(points.step):
        raise NothingToDraw("It holds no weights: no optimizer step was seen.")
    return draw_layers(weights, "Weights", trace, points, "weight norm (L2)")
