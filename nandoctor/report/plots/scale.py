"""Axes: linear or logarithmic, limits that leave room for the marks, ticks without mathtext."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator

from nandoctor.report.plots.series import Floats

LOG_FROM = 100.0  # largest / smallest: below two decades a straight axis shows shape better
LARGEST_STRAIGHT = 1e100  # a straight axis through larger numbers overflows in its own arithmetic
LARGEST, SMALLEST = 1.7e308, 5e-324  # the ends of float64
LARGEST_TURN = 1e290  # of symlog, whose own arithmetic multiplies it by the number of decades


def fit_y(axes: Axes, values: Floats, bottom: float, top: float) -> str:
    """Choose the scale, put the finite values between these fractions of the axis; returns the scale."""
    finite = values[np.isfinite(values)]
    scale, straight = _scale(finite), 1.0
    if scale == "log":
        axes.set_yscale("log")
        finite = finite[finite > 0]
    elif scale == "symlog":
        straight = _straight_part(finite)
        axes.set_yscale("symlog", linthresh=straight)
    if not len(finite):
        axes.set_ylim(0, 1)
        axes.set_yticks([])
        return scale
    transform = axes.yaxis.get_transform()
    low, high = (float(v) for v in transform.transform(np.array([finite.min(), finite.max()])))
    if high - low < 1e-12 * max(abs(low), abs(high), 1e-300):
        half = 0.5 * straight if scale != "linear" else max(abs(high) * 0.1, 1e-12)  # symlog counts in `straight`
        low, high = low - half, high + half
    unit = (high - low) / (top - bottom)
    with np.errstate(over="ignore", under="ignore"):
        ends = transform.inverted().transform(np.array([low - bottom * unit, high + (1 - top) * unit]))
    floor = SMALLEST if scale == "log" else -LARGEST
    axes.set_ylim(*np.clip(ends, floor, LARGEST))
    _ticks(axes, scale, straight)
    return scale


def _scale(finite: Floats) -> str:
    sizes = np.abs(finite[finite != 0])
    if not len(sizes):
        return "linear"
    wide = sizes.max() / LOG_FROM >= sizes.min() or sizes.max() > LARGEST_STRAIGHT
    if (finite >= 0).all():
        return "log" if wide else "linear"
    # around zero small sizes are ordinary, so the range asks for a log only if the bulk is small too
    return "symlog" if sizes.max() / LOG_FROM > _middle(sizes) or sizes.max() > LARGEST_STRAIGHT else "linear"


def _straight_part(finite: Floats) -> float:
    """Where symlog turns: the decade of the ordinary values, at most twelve below the largest."""
    sizes = np.abs(finite[finite != 0])
    turn = min(max(_middle(sizes), sizes.max() * 1e-12), LARGEST_TURN)
    return float(10.0 ** np.floor(np.log10(turn)))


def _middle(sizes: Floats) -> float:
    """The median without the mean of two, which overflows."""
    return float(np.sort(sizes)[len(sizes) // 2])


def _ticks(axes: Axes, scale: str, straight: float) -> None:
    if scale == "linear":
        return
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    axes.yaxis.set_minor_formatter(FuncFormatter(lambda value, _: ""))
    low, high = axes.get_ylim()
    if scale == "symlog":
        axes.yaxis.set_major_locator(FixedLocator(_both_sides(low, high, straight)))
    elif np.log10(high) - np.log10(low) < 3:
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=20))
    else:
        axes.yaxis.set_major_locator(LogLocator(numticks=9))


def _both_sides(low: float, high: float, straight: float) -> list[float]:
    """At most four powers of ten on each side of zero, none in the straight part around it."""
    sides = []
    for sign, end in ((-1.0, -low), (1.0, high)):
        first, last = np.floor(np.log10(straight)) + 1, np.floor(np.log10(max(end, straight)))
        apart = max(1, -(-int(last - first + 1) // 4))
        sides += [sign * 10.0**exponent for exponent in np.arange(last, first - 1, -apart)]
    return sorted([0.0, *sides])


def number(value: float) -> str:
    """As short as can be: 0.01, 500, 1e-8."""
    text = f"{value:.3g}" if 1e-3 <= abs(value) < 1e5 or value == 0 else f"{value:.0e}"
    mantissa, e, exponent = text.partition("e")
    return f"{mantissa}e{int(exponent)}" if e else text


def fit_steps(axes: Axes, first: float, last: float) -> None:
    """The x axis: whole steps, thousands apart, a little air at both ends."""
    air = max(0.5, 0.015 * (last - first))
    axes.set_xlim(first - air, last + air)
    label_steps(axes)


def label_steps(axes: Axes, most: int = 10) -> None:
    axes.set_xlabel("step")
    axes.xaxis.set_major_locator(MaxNLocator(most, integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
