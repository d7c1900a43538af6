"""The steps around the first non-finite value, layer by layer: where it was born and how it spread."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nandoctor.evidence import Bad
from nandoctor.report.plots import marks
from nandoctor.report.plots.events import first_bad, module_classes, source_line
from nandoctor.report.plots.heat import (
    colour_bar,
    colour_range,
    fill_cells,
    height_for,
    map_inches,
    name_rows,
)
from nandoctor.report.plots.scale import label_steps
from nandoctor.report.plots.series import (
    FINITE,
    Grid,
    NothingToDraw,
    Points,
    grid,
    layer_points,
    parameters,
    renamed,
    together,
)
from nandoctor.report.plots.style import INK, dress, new_figure
from nandoctor.report.plots.wording import plain
from nandoctor.trace.trace import Trace

BEFORE, AFTER = 8, 3  # steps around the first bad one: enough to see growth, few enough to see cells
INPUT, LOSS = "(input)", "(loss)"
PANELS = ("forward", "gradient of the output", "gradient of the weights", "weights after the step")
_PANEL_OF_PHASE = {"input": 0, "forward": 0, "loss": 0, "backward": 1, "optimizer": 3, "weights": 3}


def provenance(trace: Trace) -> Figure:
    """The steps around the first bad value, one panel for each stage of a step, one row for each layer;
    the darker the blue, the larger the value. Follow one column through the panels: forward from top to
    bottom, the gradients from bottom to top, then the weights. The framed cell is where the first value
    that mattered became NaN or Inf; orange and yellow after it are how it spread. A framed cell without a
    value is a module whose own code, not one of its parts, made it. Darkening columns before it show a
    value that grew until it broke.
    """
    parts = _parts(trace)
    known = [part for part in parts if len(part.step)]
    if not known:
        raise NothingToDraw("It holds no values of layers: no module was called and no optimizer step was seen.")
    bad = first_bad(trace)
    last_known = max(int(part.step.max()) for part in known)
    first = max(0, bad.step - BEFORE) if bad else max(0, last_known - BEFORE - AFTER)
    last = max(min(last_known, bad.step + AFTER), bad.step) if bad else last_known
    layers = _rows(parts, bad)
    grids = [grid(part, first, last, layers) for part in parts]
    title = "Where the first bad value came from" if bad else "The last steps, layer by layer"
    figure = new_figure()
    _panels(figure, grids, bad, module_classes(trace))
    height = height_for(len(grids[0].heads)) + 1.0
    return dress(figure, provenance, title, trace, bad, height, marks.cell_handles())


def _parts(trace: Trace) -> list[Points]:
    forward = together(
        *(renamed(layer_points(trace, kind, "absmax"), INPUT) for kind in ("batch", "input")),
        layer_points(trace, "activation", "absmax", per_module=True),
        renamed(layer_points(trace, "loss", "absmax"), LOSS),
    )
    return [
        forward,
        layer_points(trace, "output_gradient", "absmax", per_module=True),
        parameters(trace, "parameter_gradient"),
        parameters(trace, "weight"),
    ]


def _rows(parts: list[Points], bad: Bad | None) -> list[str]:
    """Input, layers in order of their calls, loss; and the birthplace, if it has no values of its own."""
    seen = dict.fromkeys(layer for part in parts for layer in part.layers if layer not in (INPUT, LOSS))
    layers = [INPUT, *seen, LOSS]
    held = {part.layers[number] for part in parts for number in np.unique(part.layer)}
    layers = [layer for layer in layers if layer in held]
    born = _row_name(bad)
    if bad is not None and born is not None and born not in layers:
        layers.insert(_place_of(born, layers, parts[0], bad), born)
    return layers


def _place_of(born: str, layers: list[str], forward: Points, bad: Bad) -> int:
    """The row for a module whose own code made the bad value: before its first part that received it."""
    sick = (forward.health > FINITE) & (forward.step == bad.step)
    received = {forward.layers[number] for number in np.unique(forward.layer[sick])}
    end = len(layers) - (1 if layers[-1:] == [LOSS] else 0)
    inside = [row for row in range(end) if layers[row].startswith(f"{born}." if born else "")]
    after = [row for row in inside if layers[row] in received - {INPUT}]
    return after[0] if after else inside[-1] + 1 if inside else end


def _row_name(bad: Bad | None) -> str | None:
    if bad is None:
        return None
    if bad.layer is not None:
        return bad.layer
    if bad.phase == "backward" and bad.op:  # of an operation outside the model
        return LOSS
    return {"input": INPUT, "loss": LOSS}.get(bad.phase)


def _panels(figure: Figure, grids: list[Grid], bad: Bad | None, classes: dict[str, str]) -> None:
    row = figure.subplots(1, len(grids), sharey=True)
    for number, (axes, cells, name) in enumerate(zip(row, grids, PANELS, strict=True)):
        norm = colour_range(cells)
        fill_cells(axes, cells, norm)
        axes.set_title(name, fontsize=9, pad=18 if bad else 6)
        axes.tick_params(axis="y", length=0)
        label_steps(axes, most=5)
        marks.mark_first_bad(axes, bad, over_cells=True, label=number == 0, in_layout=False)
        measure = "log10 of the largest |value|" if number < 2 else "log10 of the L2 norm"
        colour_bar(figure, axes, cells, norm, measure, "bottom", 1.9)
        if not (cells.health >= FINITE).any():
            axes.text(0.5, 0.5, "not recorded", transform=axes.transAxes, ha="center", va="center", fontsize=8)
    name_rows(row[0], grids[0], bad, map_inches(len(grids[0].heads)), classes)
    if bad is not None:
        _frame(row, grids, bad)


def _frame(row: "np.ndarray[tuple[int], np.dtype[np.object_]]", grids: list[Grid], bad: Bad) -> None:
    """A frame around the cell where it was born, and beside it layer, operation and line."""
    name, panel = _row_name(bad), _PANEL_OF_PHASE.get(bad.phase)
    if name is None or panel is None:
        return
    cells, axes = grids[panel], row[panel]
    assert isinstance(axes, Axes)
    if name not in cells.layers:
        return
    place = cells.layers.index(name) // cells.merged
    marks.frame_birth(axes, cells, bad, place, map_inches(len(cells.heads)))
    layer = name if name in (INPUT, LOSS) else f"layer {name or '(root)'}"
    words = [layer, f"op {bad.op}" if bad.op else "", source_line(bad).replace("\\", "/").rpartition("/")[2]]
    high, left = place > len(cells.heads) / 2, panel > 1
    axes.set_zorder(2)  # the label may reach over the next panel
    axes.annotate(
        "\n".join(plain(word, 30) for word in words if word), (bad.step, place), fontsize=8,
        gid="birth-label", xytext=(-14 if left else 14, 12 if high else -12), textcoords="offset points",
        annotation_clip=False, ha="right" if left else "left", va="bottom" if high else "top",
        fontweight="bold", zorder=8,
        bbox={"boxstyle": "round,pad=0.35", "facecolor": "white", "edgecolor": INK, "alpha": 0.95},
    ).set_in_layout(False)  # fmt: skip
