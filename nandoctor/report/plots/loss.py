"""The picture of the loss."""

from dataclasses import replace

import numpy as np
from matplotlib.figure import Figure

from nandoctor.report.plots.curves import HEIGHT, draw_curves
from nandoctor.report.plots.events import first_bad, optimizer_name, skipped_steps
from nandoctor.report.plots.series import Curve, NothingToDraw, value_curves
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
        curves = _by_optimizer(trace, replace(curves[0], name=""))
    figure = new_figure()
    entries = draw_curves(figure, trace, curves, bad, "loss", skipped_steps(trace))
    return dress(figure, loss, "Loss", trace, bad, HEIGHT, entries)


def _by_optimizer(trace: Trace, curve: Curve) -> tuple[Curve, ...]:
    """Where optimizers take turns (GAN), the losses before the steps of each; else the one curve."""
    used = value_curves(trace, "gradient_norm")
    if len(used) < 2:
        return (curve,)
    steps = np.concatenate([np.floor(one.x) for one in used])
    whose = np.concatenate([np.full(len(one.x), number) for number, one in enumerate(used)])
    order = np.argsort(steps, kind="stable")
    place = np.searchsorted(steps[order], np.floor(curve.x), side="right") - 1
    owner = whose[order][np.maximum(place, 0)]  # a step without gradients counts with the one before
    turns = [(one, owner == number) for number, one in enumerate(used) if (owner == number).any()]
    return tuple(
        Curve(f"before a step of {optimizer_name(trace, one.name)}", curve.x[mine], curve.y[mine])
        for one, mine in turns
    )
