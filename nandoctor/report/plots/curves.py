"""Line pictures: curves on one pair of axes, thinned so that extremes stay, NaN and Inf at the edge."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from nandoctor.evidence import Bad
from nandoctor.report.plots import marks
from nandoctor.report.plots.events import epoch_steps, treatment_steps
from nandoctor.report.plots.scale import fit_steps, fit_y
from nandoctor.report.plots.series import Curve, Floats
from nandoctor.report.plots.style import FAINT, INK, LINE_COLOURS, QUIET, Entry
from nandoctor.report.plots.wording import layer_name
from nandoctor.trace.trace import Trace

Flags = NDArray[np.bool_]

MOST_LINES = len(LINE_COLOURS)  # that can be told apart and named; further ones are drawn grey together
MOST_POINTS = 1200  # along the page: about one a pixel
DOTTED_BELOW = 60  # values of a curve that are few enough to be seen one by one
HEIGHT = 4.4  # inches of a line picture, without words


def draw_curves(
    figure: Figure,
    trace: Trace,
    curves: Sequence[Curve],
    bad: Bad | None,
    label: str,
    skipped: Floats | None = None,
    also: Sequence[Curve] = (),
    dashed: Sequence[Curve] = (),
) -> list[Entry]:
    """Axes with curves (coloured), `also` (thin, behind them), `dashed` limits, the shared marks.

    Returns the legend's entries.
    """
    axes = figure.add_subplot()
    axes.grid(axis="y")
    axes.set_ylabel(label)
    everything = [*curves, *also, *dashed]
    skipped = np.zeros(0) if skipped is None else skipped
    bottom = marks.CROWDED_BOTTOM if len(skipped) or _floored(everything) else marks.FREE_BOTTOM
    marked = any(not np.isfinite(curve.y).all() for curve in [*curves, *also])
    top = marks.CROWDED_TOP if marked else marks.FREE_TOP
    scale = fit_y(axes, np.concatenate([curve.y for curve in everything]), bottom, top)
    x = np.concatenate([*(curve.x for curve in everything), trace.rows("step")["step"]])
    ends = [*([bad.step] if bad else []), x.min(), x.max()]
    fit_steps(axes, min(ends), max(ends))
    shown = _without_zeros if scale == "log" else list
    entries = _lines(axes, shown(curves))
    for group, colour, style in ((also, QUIET, "-"), (dashed, INK, (0, (5, 2)))):
        for curve in shown(group):
            entries.append((_line(axes, curve, colour, 1.0, style, zorder=2.5), layer_name(curve.name, 40)))
    entries += _edges(axes, curves, also, scale == "log")
    if len(skipped):
        marks.mark_edge(axes, skipped, marks.SKIPPED_MARK)
        entries.append(marks.edge_handle(marks.SKIPPED_MARK))
    entries += marks.mark_epochs(axes, epoch_steps(trace))
    entries += marks.mark_treatments(axes, treatment_steps(trace))
    marks.mark_first_bad(axes, bad)
    if not any(np.isfinite(curve.y).any() for curve in everything):
        axes.text(0.5, 0.5, "not one finite value", transform=axes.transAxes, ha="center", color=QUIET, fontsize=11)
    return entries


def _floored(curves: Sequence[Curve]) -> bool:
    return any((curve.y == 0).any() or np.isneginf(curve.y).any() for curve in curves)


def _without_zeros(curves: Sequence[Curve]) -> list[Curve]:
    """A line to zero would run off a log axis; the mark at its edge shows it."""
    return [replace(curve, y=np.where(curve.y == 0, np.nan, curve.y)) for curve in curves]


def _lines(axes: Axes, curves: Sequence[Curve]) -> list[Entry]:
    named = curves if len(curves) <= MOST_LINES else curves[: MOST_LINES - 1]
    entries: list[Entry] = []
    for curve in curves[len(named) :]:
        handle = _line(axes, curve, FAINT, 0.8, "-", zorder=2)
    for colour, curve in zip(LINE_COLOURS, named, strict=False):
        entries.append((_line(axes, curve, colour, 1.5, "-", zorder=3), layer_name(curve.name)))
    if len(curves) > len(named):
        entries.append((handle, f"{len(curves) - len(named)} more"))
    return [] if len(entries) == 1 and not curves[0].name else entries


def _line(axes: Axes, curve: Curve, colour: str, width: float, style: object, zorder: float) -> Line2D:
    finite = np.isfinite(curve.y)
    if len(curve.x) <= MOST_POINTS:
        x, y = curve.x, np.where(finite, curve.y, np.nan)  # a gap where a bad value was
    else:
        x, low, y, high = thin(curve.x, curve.y)
        axes.fill_between(x, low, high, color=colour, alpha=0.35, linewidth=0.6, gid="extremes", zorder=zorder - 0.2)
    (line,) = axes.plot(x, y, color=colour, linewidth=width, zorder=zorder, gid="curve")
    line.set_linestyle(style)  # type: ignore[arg-type]
    dotted = _alone(y) if len(x) > DOTTED_BELOW or style != "-" else np.isfinite(y)
    if dotted.any():
        line.set(marker="o", markersize=3, markevery=np.flatnonzero(dotted))
    return line


def _alone(y: Floats) -> Flags:
    """Values between two gaps: a line has no way to show them."""
    there = np.concatenate([[False], np.isfinite(y), [False]])
    return np.asarray(there[1:-1] & ~there[:-2] & ~there[2:], dtype=np.bool_)


def thin(x: Floats, y: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Places, and the smallest, median and largest finite value around each (NaN where there is none).

    Every extreme of the curve survives.
    """
    stretch = np.floor((x - x.min()) / max(float(np.ptp(x)), 1e-9) * (MOST_POINTS - 1))
    all_stretches, at = np.unique(stretch, return_index=True)
    finite = np.isfinite(y)
    order = np.lexsort((y[finite], stretch[finite]))
    ordered = y[finite][order]
    stretches, starts = np.unique(stretch[finite][order], return_index=True)
    ends = np.append(starts[1:], len(ordered))
    found = np.searchsorted(all_stretches, stretches)
    low, middle, high = (np.full(len(all_stretches), np.nan) for _ in range(3))
    if len(ordered):
        low[found], middle[found], high[found] = (
            ordered[starts],
            ordered[(starts + ends - 1) // 2],
            ordered[ends - 1],
        )
    return x[at], low, middle, high


def _edges(axes: Axes, curves: Sequence[Curve], also: Sequence[Curve], log: bool) -> list[Entry]:
    """Marks for what has no place on the axis; with several curves the rim has the curve's colour."""
    colours = list(LINE_COLOURS[: len(curves)]) if 1 < len(curves) <= MOST_LINES else [INK] * len(curves)
    entries = []
    for edge in (marks.NAN_MARK, marks.INF_MARK, marks.MINUS_INF_MARK, marks.ZERO_MARK):
        found = False
        for curve, rim in [*zip(curves, colours, strict=True), *((curve, QUIET) for curve in also)]:
            x = curve.x[_belongs(curve.y, edge, log)]
            marks.mark_edge(axes, x, edge, rim)
            found = found or len(x) > 0
        if found:
            entries.append(marks.edge_handle(edge))
    return entries


def _belongs(y: Floats, edge: marks.Edge, log: bool) -> Flags:
    if edge is marks.NAN_MARK:
        there = np.isnan(y)
    elif edge is marks.INF_MARK:
        there = np.isposinf(y)
    elif edge is marks.MINUS_INF_MARK:
        there = np.isneginf(y)
    else:
        there = (y == 0) & log
    return np.asarray(there, dtype=np.bool_)
