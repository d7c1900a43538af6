"""The look that all pictures share: colours, type, the page with its title and its caption."""

import inspect
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
from matplotlib.artist import Artist
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from nandoctor.evidence import Bad
from nandoctor.report.plots.events import birthplace
from nandoctor.report.plots.wording import plain
from nandoctor.trace.trace import Trace

Entry = tuple[Artist, str]  # of the legend

# Okabe and Ito's colours, told apart under all common colour blindness. Bad values own vermilion and yellow;
# the magnitudes of heat maps are blue only, which none of the three kinds confuses with either.
NAN_COLOUR = "#D55E00"
INF_COLOUR = "#F0C808"
NO_VALUE = "#ECECEC"
INK = "#1A1A1A"
QUIET = "#6B6B6B"
FAINT = "#C9C9C9"
LINE_COLOURS = ("#0072B2", "#009E73", "#7A4FA3", "#56B4E9", "#4D4D4D", "#CC79A7")
MAGNITUDES = ListedColormap(matplotlib.colormaps["Blues"](range(28, 256)), "magnitude")  # its palest are no-value's

WIDTH = 10.0  # inches
DPI = 150
RC: dict[str, object] = {
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "text.parse_math": False,  # a name with $ is a name
    "text.usetex": False,
    "text.color": INK,
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "figure.dpi": DPI,
    "savefig.dpi": DPI,
    "svg.hashsalt": "nandoctor",  # the same trace gives the same file
    "image.composite_image": False,
}

_EDGE, _TITLE, _SUBTITLE, _CAPTION_LINE, _LEGEND_LINE = 0.14, 0.34, 0.2, 0.165, 0.19  # inches
_CAPTION_COLUMNS = 165  # characters of 8 point in the page's width


@contextmanager
def applied() -> Iterator[None]:
    """Draw and save inside this: our style on matplotlib's defaults, whatever matplotlibrc says."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(RC)  # type: ignore[arg-type]
        yield


def dress(
    figure: Figure,
    picture: Callable[[Trace], Figure],
    title: str,
    trace: Trace,
    bad: Bad | None,
    height: float,
    entries: Sequence[Entry],
) -> Figure:
    """Make a page of drawn axes of this height: title, what was recorded, a legend, `picture`'s docstring."""
    caption = textwrap.wrap(" ".join((inspect.getdoc(picture) or "").split()), _CAPTION_COLUMNS)
    columns = _legend_columns(entries)
    legend = _LEGEND_LINE * -(-len(entries) // columns) + 0.14
    above = _EDGE + _TITLE + 2 * _SUBTITLE + 0.06
    words = _EDGE + _CAPTION_LINE * len(caption)
    total = above + height + legend + words
    figure.set_size_inches(WIDTH, total)
    engine = figure.get_layout_engine()
    assert engine is not None
    left = _EDGE / WIDTH
    rect = (left, (words + legend) / total, 1 - 2 * left, height / total)
    engine.set(rect=rect)  # type: ignore[call-arg]

    def write(text: str, inches: float, **style: Any) -> None:
        figure.text(left, 1 - inches / total, text, va="top", in_layout=False, **style)

    verdict, colour = _verdict(bad)
    write(title, _EDGE, gid="title", fontsize=14, fontweight="bold")
    write(_told(trace), _EDGE + _TITLE, gid="trace", fontsize=9, color=QUIET)
    write(verdict, _EDGE + _TITLE + _SUBTITLE, gid="verdict", fontsize=9, color=colour)
    write("\n".join(caption), total - words + 0.02, gid="caption", fontsize=8, color=QUIET, linespacing=1.4)
    if entries:
        # matplotlib hides labels that begin with an underscore, and a layer's name may
        labels = [f" {label}" if label.startswith("_") else label for _, label in entries]
        figure.legend(
            [handle for handle, _ in entries], labels, loc="upper left", ncols=columns, borderaxespad=0,
            bbox_to_anchor=(left, (words + legend - 0.08) / total), borderpad=0, columnspacing=1.6,
            handletextpad=0.5,
        ).set_in_layout(False)  # fmt: skip
    return figure


def settle(figure: Figure) -> None:
    """Lay the page out once, rounded: the solver's last bits differ from run to run, and files would with them."""
    if not isinstance(figure.get_layout_engine(), ConstrainedLayoutEngine):
        return
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for axes in figure.axes:
        for which in ("original", "active"):
            left, bottom, width, height = axes.get_position(original=which == "original").bounds
            axes.set_position(tuple(round(side, 5) for side in (left, bottom, width, height)), which=which)


def _legend_columns(entries: Sequence[Entry]) -> int:
    longest = max((len(label) for _, label in entries), default=0)
    return max(1, min(len(entries), int((WIDTH - 2 * _EDGE) / (0.6 + 0.068 * longest))))  # inches


def new_figure() -> Figure:
    """An empty page; draw on it, then `dress` it."""
    return Figure(layout="constrained")


def _told(trace: Trace) -> str:
    command = trace.header.get("command")
    words = " ".join(str(word) for word in command) if isinstance(command, (list, tuple)) else str(command or "")
    steps = f"{trace.steps:,} step{'' if trace.steps == 1 else 's'}"
    alive = "still running" if trace.alive else ""
    parts = [plain(trace.path.replace("\\", "/").rpartition("/")[2], 40), plain(words, 70), steps, alive]
    return "  ·  ".join(part for part in parts if part)


def _verdict(bad: Bad | None) -> tuple[str, str]:
    if bad is None:
        return "no NaN or Inf that counts was seen", QUIET
    return f"first bad value: step {bad.step:,}, {plain(birthplace(bad), 120)}", INK
