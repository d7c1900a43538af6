"""Heat maps: layers from first (top) to last, steps to the right, NaN and Inf in colours of their own."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_rgba
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from nandoctor.evidence import Bad
from nandoctor.report.plots import marks
from nandoctor.report.plots.events import epoch_steps, module_classes, treatment_steps
from nandoctor.report.plots.scale import label_steps
from nandoctor.report.plots.series import FINITE, INF, NAN, Floats, Grid
from nandoctor.report.plots.style import INF_COLOUR, MAGNITUDES, NAN_COLOUR, NO_VALUE, QUIET, Entry
from nandoctor.report.plots.wording import layer_name, plain
from nandoctor.trace.trace import Trace

MOST_DECADES = 12.0  # of magnitude in one colour scale: with more, ordinary changes would all look the same
ROW_INCHES, LEAST_INCHES, MOST_INCHES = 0.24, 1.9, 7.0
LABEL_INCHES = 0.15  # of one layer's name


def map_inches(rows: int) -> float:
    return min(max(rows * ROW_INCHES, LEAST_INCHES), MOST_INCHES)


def height_for(rows: int) -> float:
    """Inches for a heat map of this many layers with its tick labels."""
    return map_inches(rows) + 0.7


def draw_heat(figure: Figure, trace: Trace, cells: Grid, bad: Bad | None, label: str) -> list[Entry]:
    """One heat map with its colour bar and the shared marks; the legend's entries."""
    axes = figure.add_subplot()
    norm = colour_range(cells)
    inches = map_inches(len(cells.heads))
    fill_cells(axes, cells, norm)
    name_rows(axes, cells, bad, inches, module_classes(trace))
    label_steps(axes)
    colour_bar(figure, axes, cells, norm, label, "right", inches)
    marks.mark_first_bad(axes, bad, over_cells=True)
    epochs = marks.mark_epochs(axes, epoch_steps(trace), over_cells=True)
    return marks.cell_handles() + epochs + marks.mark_treatments(axes, treatment_steps(trace))


def colour_range(*grids: Grid) -> Normalize:
    """The decades that the colours span: all if they fit, else those around the bulk of the values."""
    logs = np.concatenate([cells.log[(cells.health == FINITE) & np.isfinite(cells.log)] for cells in grids])
    if not len(logs):
        return Normalize(-1, 1)
    low, high = float(logs.min()), float(logs.max())
    if high - low > MOST_DECADES:
        middle = float(np.median(logs))
        low, high = max(low, middle - MOST_DECADES / 2), min(high, middle + MOST_DECADES / 2)
    if high - low < 1:  # less than a decade is not worth a whole colour scale
        low, high = (low + high) / 2 - 0.5, (low + high) / 2 + 0.5
    return Normalize(low, high)


def fill_cells(axes: Axes, cells: Grid, norm: Normalize) -> None:
    rows, columns = cells.log.shape
    axes.imshow(
        paint(cells, norm), interpolation="nearest", aspect="auto", gid="cells",
        extent=(cells.first - 0.5, cells.first + cells.width * columns - 0.5, rows - 0.5, -0.5),
    )  # fmt: skip
    for side in ("top", "right"):
        axes.spines[side].set_visible(True)
    if rows <= 40 and columns > 0:
        axes.hlines(np.arange(rows - 1) + 0.5, *axes.get_xlim(), color="white", linewidth=0.8)


def paint(cells: Grid, norm: Normalize) -> Floats:
    """The colours of the cells."""
    log = np.clip(np.nan_to_num(cells.log, nan=0.0, neginf=-1e3, posinf=1e3), norm.vmin, norm.vmax)
    image: Floats = np.asarray(MAGNITUDES(norm(log)), dtype=np.float64)
    image[cells.health < FINITE] = _rgba(NO_VALUE)
    image[cells.health == INF] = _rgba(INF_COLOUR)
    image[cells.health == NAN] = _rgba(NAN_COLOUR)
    return image


def _rgba(colour: str) -> NDArray[np.float64]:
    return np.array(to_rgba(colour))


def name_rows(axes: Axes, cells: Grid, bad: Bad | None, inches: float, classes: Mapping[str, str]) -> None:
    """Names beside as many rows as there is room for, always with the first, the last and the bad layer."""
    layers = cells.heads
    room = max(2, int(inches / LABEL_INCHES))
    apart = max(1, -(-len(layers) // room))
    shown = list(range(0, len(layers), apart))
    guilty = bad_row(cells, bad)
    for wanted in (len(layers) - 1, guilty):
        if wanted is not None and wanted not in shown:
            shown = [row for row in shown if abs(row - wanted) >= apart] + [wanted]
    shown.sort()
    own = bad.layer if guilty is not None and bad is not None and bad.layer is not None else ""
    names = [layer_name(own if row == guilty else layers[row]) for row in shown]
    if apart == 1:
        kinds = [plain(classes.get(layers[row].partition(" [")[0], ""), 20) for row in shown]
        names = [f"{name} · {kind}" if kind else name for name, kind in zip(names, kinds, strict=True)]
    if cells.merged > 1:
        names = [f"{name} (+{cells.merged - 1})" for name in names]
    axes.set_yticks(shown, names, fontsize=8)
    axes.tick_params(axis="y", length=2 if apart > 1 else 0)
    for row, tick in zip(shown, axes.get_yticklabels(), strict=True):
        if row == guilty:
            tick.set_fontweight("bold")
    if apart > 1:
        many = sum(not layer.startswith("(") for layer in cells.layers)
        axes.set_ylabel(f"{many:,} layers, first at the top", color=QUIET)


def bad_row(cells: Grid, bad: Bad | None) -> int | None:
    """The row of the layer where the first bad value was born."""
    if bad is None or bad.layer is None:
        return None
    exact = [row for row, layer in enumerate(cells.layers) if layer.partition(" [")[0] == bad.layer]
    return exact[0] // cells.merged if exact else None


def colour_bar(figure: Figure, axes: Axes, cells: Grid, norm: Normalize, label: str, side: str, inches: float) -> None:
    logs = cells.log[cells.health == FINITE]
    low, high = norm.vmin or 0.0, norm.vmax or 0.0
    over, under = bool((logs > high).any()), bool((logs < low).any())
    extend = "both" if over and under else "max" if over else "min" if under else "neither"
    bar = figure.colorbar(
        ScalarMappable(norm, MAGNITUDES), ax=axes, location=side, extend=extend, fraction=0.05, pad=0.02,
        aspect=inches / 0.13, extendfrac=0.08 / inches,
    )  # fmt: skip
    bar.locator = MaxNLocator(6 if side == "right" else 4, integer=high - low >= 2)
    bar.formatter = FuncFormatter(lambda value, _: f"{value:g}".replace("-", "−"))
    bar.update_ticks()
    bar.ax.tick_params(labelsize=8)
    bar.set_label(label, fontsize=8)
    bar.outline.set_visible(False)
