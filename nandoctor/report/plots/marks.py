"""The marks that all pictures share: NaN and Inf at the edge, the first bad step, epochs, skipped steps."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.patheffects import withStroke

from nandoctor.evidence import Bad
from nandoctor.report.plots.series import Floats, Grid
from nandoctor.report.plots.style import FAINT, INF_COLOUR, INK, NAN_COLOUR, NO_VALUE, QUIET, Entry

MOST_MARKS = 300  # side by side on one edge; more would only overlap
TREATED = "#A6761D"  # brown: nothing else is drawn in it
LEAST_FRAME = 0.1  # inches: a row among hundreds is thinner than a frame's line

NAN_AT, INF_AT, SKIPPED_AT, FLOOR_AT = 0.945, 0.98, 0.065, 0.025  # fractions of the axes' height
CROWDED_TOP, FREE_TOP = 0.9, 0.96  # where the curves end, with and without marks above them
CROWDED_BOTTOM, FREE_BOTTOM = 0.1, 0.05


@dataclass(frozen=True)
class Edge:
    """A kind of value that has no place on the axis."""

    gid: str
    label: str
    marker: str
    colour: str
    height: float

    def look(self, rim: str) -> dict[str, Any]:
        return {
            "linestyle": "none", "marker": self.marker, "markersize": 7, "markerfacecolor": self.colour,
            "markeredgecolor": rim, "markeredgewidth": 0.7,
        }  # fmt: skip


NAN_MARK = Edge("nan", "NaN", "X", NAN_COLOUR, NAN_AT)
INF_MARK = Edge("inf", "Inf", "^", INF_COLOUR, INF_AT)
MINUS_INF_MARK = Edge("minus-inf", "−Inf", "v", INF_COLOUR, FLOOR_AT)
ZERO_MARK = Edge("zero", "exactly 0 (no place on a log axis)", "o", "white", FLOOR_AT)
SKIPPED_MARK = Edge("skipped", "step skipped by the GradScaler", "D", "white", SKIPPED_AT)


def mark_edge(axes: Axes, x: Floats, edge: Edge, rim: str = INK) -> None:
    """Put marks at the edge of the axes, at these steps."""
    if not len(x):
        return
    x = thinned(x)
    (dots,) = axes.plot(x, np.full(len(x), edge.height), transform=axes.get_xaxis_transform(), **edge.look(rim))
    dots.set(gid=edge.gid, clip_on=False, zorder=6)


def thinned(x: Floats) -> Floats:
    """At most MOST_MARKS places: the first in each stretch, so that the very first is exact."""
    if len(x) <= MOST_MARKS:
        return x
    x = np.sort(x)
    stretch = np.floor((x - x[0]) / max(x[-1] - x[0], 1e-9) * (MOST_MARKS - 1))
    return x[np.unique(stretch, return_index=True)[1]]


def edge_handle(edge: Edge) -> Entry:
    return Line2D([], [], **edge.look(INK)), edge.label


def cell_handles() -> list[Entry]:
    """What the colours of a heat map mean beside its magnitudes."""
    colours = ((NAN_COLOUR, "NaN"), (INF_COLOUR, "Inf"), (NO_VALUE, "not measured"))
    return [(Patch(facecolor=colour, edgecolor=QUIET, linewidth=0.5), label) for colour, label in colours]


def mark_first_bad(
    axes: Axes, bad: Bad | None, over_cells: bool = False, label: bool = True, in_layout: bool = True
) -> None:
    """A line at the first bad step; over cells it runs along the left side of that step's column."""
    if bad is None:
        return
    x = bad.step - 0.5 if over_cells else float(bad.step)
    around = [withStroke(linewidth=3, foreground="white", alpha=0.9)]
    dashes = "-" if over_cells else (0, (4, 2.5))
    axes.axvline(x, color=INK, linewidth=1.1, linestyle=dashes, gid="first-bad", path_effects=around, zorder=5)
    if not label:
        return
    low, high = axes.get_xlim()
    late = x > low + 0.7 * (high - low)
    words, side, shift = f"first bad: step {bad.step:,}", "right" if late else "left", 4.5 if late else -4.5
    axes.annotate(
        f"{words} ▾" if late else f"▾ {words}", (x, 1), xycoords=("data", "axes fraction"), xytext=(shift, 4),
        textcoords="offset points", ha=side, va="bottom", fontsize=8.5, fontweight="bold",
        annotation_clip=False, gid="first-bad-label",
    ).set_in_layout(in_layout)  # fmt: skip


def frame_birth(axes: Axes, cells: Grid, bad: Bad, row: int, inches: float) -> None:
    """A frame around the cell of this row in which the first bad value was born."""
    left = cells.first + (bad.step - cells.first) // cells.width * cells.width - 0.5
    height = max(1.0, LEAST_FRAME * len(cells.heads) / inches)
    around = [withStroke(linewidth=4, foreground="white")]
    frame = Rectangle((left, row - height / 2), cells.width, height, fill=False, edgecolor=INK, linewidth=2, zorder=7)
    frame.set(gid="birth", clip_on=False, path_effects=around)
    axes.add_patch(frame)


def mark_treatments(axes: Axes, steps: Iterable[int]) -> list[Entry]:
    """A dotted line where active mode applied or withdrew a treatment; returns the legend entry, if there are any."""
    found = thinned(np.array(sorted(set(steps)), np.float64))
    for x in found:
        axes.axvline(float(x), color=TREATED, linewidth=1.1, linestyle=(0, (1, 1.5)), gid="treatment", zorder=4)
    style: dict[str, Any] = {"color": TREATED, "linewidth": 1.1, "linestyle": (0, (1, 1.5))}
    return [(Line2D([], [], **style), "a treatment begins or ends")] if len(found) else []


def mark_epochs(axes: Axes, steps: Iterable[int], over_cells: bool = False) -> list[Entry]:
    """Faint ticks where an epoch begins; returns their legend entry, if there are any."""
    low, high = axes.get_xlim()
    colour = QUIET if over_cells else FAINT
    bottom, top, shift = (1.0, 1.015, 0.5) if over_cells else (0.0, 1.0, 0.0)
    inside = [step - shift for step in steps if low <= step <= high]
    for x in inside:
        axes.axvline(x, bottom, top, color=colour, linewidth=0.8, gid="epoch", clip_on=False, zorder=1)
    return [(Line2D([], [], color=colour, linewidth=0.8), "an epoch begins")] if inside else []
