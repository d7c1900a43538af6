"""The picture of the learning rate."""

import numpy as np
from matplotlib.figure import Figure

from nandoctor.report.plots.curves import HEIGHT, draw_curves
from nandoctor.report.plots.events import first_bad
from nandoctor.report.plots.series import Curve, NothingToDraw, value_curves
from nandoctor.report.plots.style import dress, new_figure
from nandoctor.trace.trace import Trace


def learning_rate(trace: Trace) -> Figure:
    """The learning rate of each parameter group at each step; groups with the same rate share a line. A
    first bad step at the top of a warm-up or in the first few steps of a constant rate points at the rate;
    one in the middle of a long decay does not.
    """
    curves = _merged(value_curves(trace, "learning_rate"))
    if not curves:
        raise NothingToDraw("It holds no learning rate: no optimizer step was seen.")
    bad = first_bad(trace)
    figure = new_figure()
    entries = draw_curves(figure, trace, curves, bad, "learning rate")
    return dress(figure, learning_rate, "Learning rate", trace, bad, HEIGHT - 0.8, entries)


def _merged(curves: tuple[Curve, ...]) -> tuple[Curve, ...]:
    """Groups whose rates never differ as one curve, named after the first."""
    alike: dict[tuple[bytes, bytes], list[Curve]] = {}
    for curve in curves:
        alike.setdefault((np.ascontiguousarray(curve.x).tobytes(), curve.y.tobytes()), []).append(curve)
    return tuple(
        Curve(same[0].name + (f" and {len(same) - 1} more" if len(same) > 1 else ""), same[0].x, same[0].y)
        for same in alike.values()
    )
