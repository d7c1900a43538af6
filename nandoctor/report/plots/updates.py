"""The picture of how far each step moves each layer."""

import numpy as np
from matplotlib.figure import Figure

from nandoctor.report.plots.layers import draw_layers
from nandoctor.report.plots.series import FINITE, NothingToDraw, Points, parameters
from nandoctor.trace.trace import Trace


def updates(trace: Trace) -> Figure:
    """What each step added to a layer, relative to the weights it was added to: norm of the update over
    norm of the weights. About 0.001 is usual; above 0.03 for many steps means that the learning rate is
    too high for that layer; below 0.000001 the layer does not learn. Look at the steps before the first
    bad one, not at the bad one itself.
    """
    moved = parameters(trace, "update")
    if not len(moved.step):
        raise NothingToDraw("It holds no updates: no optimizer step was seen.")
    points = _relative(moved, parameters(trace, "weight"))
    if not len(points.step):
        raise NothingToDraw("It holds updates, but no weights to compare them with.")
    return draw_layers(updates, "Updates relative to the weights", trace, points, "update / weight norm")


def _relative(moved: Points, held: Points) -> Points:
    """Divide by the last finite norm before the step (at the first: after it); zero has no ratio."""
    ratio = np.full(len(moved.step), np.nan)
    place = {layer: number for number, layer in enumerate(held.layers)}
    sound = (held.health == FINITE) & (held.value > 0)
    layers, steps, norms = held.layer[sound], held.step[sound], held.value[sound]
    for number, layer in enumerate(moved.layers):  # both are sorted by layer and step
        mine = slice(*np.searchsorted(moved.layer, (number, number + 1)))
        own = place.get(layer, -1)
        theirs = slice(*np.searchsorted(layers, (own, own + 1)))
        if theirs.start < theirs.stop:
            before = np.searchsorted(steps[theirs], moved.step[mine], side="left") - 1
            with np.errstate(over="ignore"):
                ratio[mine] = np.minimum(moved.value[mine] / norms[theirs][np.maximum(before, 0)], 1e308)
    ratio = np.where(moved.health == FINITE, ratio, moved.value)
    known = ~(np.isnan(ratio) & (moved.health == FINITE))
    return Points(moved.layers, moved.layer[known], moved.step[known], ratio[known], moved.health[known])
