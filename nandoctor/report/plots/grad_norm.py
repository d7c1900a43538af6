"""The picture of the gradient norm, with clipping."""

from dataclasses import replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nandoctor.report.plots.curves import HEIGHT, draw_curves
from nandoctor.report.plots.events import first_bad, optimizer_name, skipped_steps
from nandoctor.report.plots.marks import thinned
from nandoctor.report.plots.series import (
    Curve,
    NothingToDraw,
    joined,
    layer_points,
    points_as_curves,
    renamed,
    value_curves,
)
from nandoctor.report.plots.style import INK, Entry, dress, new_figure
from nandoctor.trace.schema import SCALED
from nandoctor.trace.trace import Trace


def grad_norm(trace: Trace) -> Figure:
    """The norm of all gradients of an optimizer as its step used them: unscaled and, where the run clips,
    after clipping. Grey is the norm before clipping, the dashed line is max_norm: a grey line far above it
    for many steps means that clipping steers the training. Growth over many steps before the first bad one
    speaks for a learning rate that is too high or exploding gradients; a single spike from a calm line
    speaks for one bad batch.
    """
    used = _used(trace)
    clips = [replace(curve, name=_named("before clipping", curve)) for curve in value_curves(trace, "clip")]
    limits = [replace(curve, name=_named("max_norm", curve)) for curve in value_curves(trace, "clip", "max_norm")]
    limits = [curve for curve in limits if np.isfinite(curve.y).any()]  # clipping at inf only measures
    if not used and not clips:
        raise NothingToDraw("It holds no gradient norm: no optimizer step was seen.")
    bad = first_bad(trace)
    used = tuple(replace(curve, name=optimizer_name(trace, curve.name)) for curve in used)
    if len(used) == 1:
        used = (replace(used[0], name="as the optimizer used it" if clips else ""),)
    figure = new_figure()
    label = "gradient norm (L2)"
    entries = draw_curves(figure, trace, used, bad, label, skipped_steps(trace), also=clips, dashed=limits)
    entries += _mark_scaled(figure.axes[0], trace)
    return dress(figure, grad_norm, "Gradient norm", trace, bad, HEIGHT, entries)


def _used(trace: Trace) -> tuple[Curve, ...]:
    curves = value_curves(trace, "gradient_norm")
    if curves or not len(trace.rows("parameter_gradient")):
        return curves
    return points_as_curves(joined(renamed(layer_points(trace, "parameter_gradient", "norm"), "")))


def _named(what: str, curve: Curve) -> str:
    return what if curve.name in ("", "clip_grad_norm_") else f"{what}: {curve.name}"


def _mark_scaled(axes: Axes, trace: Trace) -> list[Entry]:
    """Clips that saw gradients which still carried the loss scale: their max_norm meant something else."""
    rows = trace.rows("clip")
    wrong = rows[((rows["flags"] & SCALED) != 0) & np.isfinite(rows["value"]) & (rows["value"] > 0)]
    if not len(wrong):
        return []
    x = thinned(wrong["step"].astype(np.float64))
    y = wrong["value"][np.searchsorted(wrong["step"], x)]
    (dots,) = axes.plot(
        x,
        y,
        "s",
        markerfacecolor="none",
        markeredgecolor=INK,
        markersize=5,
        gid="clipped-while-scaled",
        zorder=4,
    )
    return [(dots, "clipped while still scaled")]
