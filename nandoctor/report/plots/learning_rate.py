"""The picture of the learning rate."""

from dataclasses import replace

import numpy as np
from matplotlib.figure import Figure

from nandoctor.report.plots.curves import HEIGHT, draw_curves
from nandoctor.report.plots.events import first_bad, optimizer_name
from nandoctor.report.plots.series import Curve, NothingToDraw, value_curves
from nandoctor.report.plots.style import dress, new_figure
from nandoctor.trace.trace import Trace


def learning_rate(trace: Trace) -> Figure:
    """The learning rate of each parameter group at each step; groups with the same rate share a line. A
    first bad step at the top of a warm-up or in the first few steps of a constant rate points at the rate;
    one in the middle of a long decay does not.
    """
    curves = _merged(trace, value_curves(trace, "learning_rate"))
    if not curves:
        raise NothingToDraw("It holds no learning rate: no optimizer step was seen.")
    bad = first_bad(trace)
    figure = new_figure()
    entries = draw_curves(figure, trace, curves, bad, "learning rate")
    return dress(figure, learning_rate, "Learning rate", trace, bad, HEIGHT - 0.8, entries)


def _merged(trace: Trace, curves: tuple[Curve, ...]) -> tuple[Curve, ...]:
    """Groups whose rates never differ as one curve, named after the first."""
    alike: dict[tuple[bytes, bytes], list[Curve]] = {}
    for curve in curves:
        alike.setdefault((np.ascontiguousarray(curve.x).tobytes(), curve.y.tobytes()), []).append(curve)
    if len(alike) == 1:
        return (replace(curves[0], name=""),)
    return tuple(_named(trace, same) for same in alike.values())


def _named(trace: Trace, same: list[Curve]) -> Curve:
    more = f" and {len(same) - 1} more" if len(same) > 1 else ""
    return replace(same[0], name=optimizer_name(trace, same[0].name) + more)
