"""Trace rows as the arrays that pictures need: curves, points per layer, grids. NaN and Inf are kept."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from nandoctor.trace.schema import BAD, NORM_ONLY, TENSOR_KINDS
from nandoctor.trace.trace import Records, Rows, Trace

Floats = NDArray[np.float64]
Codes = NDArray[np.uint8]

MISSING, FINITE, INF, NAN = 0, 1, 2, 3  # health of a value; ordered so that the larger is the worse
FLOAT32_MAX = float(np.finfo(np.float32).max)  # what a norm that overflowed is at least: its elements were finite
MOST_COLUMNS = 500  # steps side by side: two pixels each at 150 dpi, so that no column can fall between pixels
MOST_ROWS = 320  # layers one below the other: about three pixels each on the tallest page


class NothingToDraw(Exception):
    """The trace lacks what a picture is made of; `missing` says what, in words."""

    def __init__(self, missing: str) -> None:
        super().__init__(missing)
        self.missing = missing


@dataclass(frozen=True)
class Curve:
    """One line; y keeps its NaN and Inf."""

    name: str
    x: Floats
    y: Floats


@dataclass(frozen=True)
class Points:
    """One magnitude per layer and time, flat; value is nan or inf where health says so."""

    layers: tuple[str, ...]
    layer: NDArray[np.int64]  # index into layers
    step: NDArray[np.int64]
    value: Floats
    health: Codes


@dataclass(frozen=True)
class Grid:
    """Layers by steps. A cell holds the largest magnitude and the worst health of all it covers."""

    layers: tuple[str, ...]
    first: int  # first step of column 0
    width: int  # steps per column
    log: Floats  # log10 of the magnitude; -inf is zero
    health: Codes
    merged: int = 1  # layers per row

    @property
    def heads(self) -> tuple[str, ...]:
        """The first layer of each row."""
        return self.layers[:: self.merged]


def value_curves(trace: Trace, kind: str, column: str = "value") -> tuple[Curve, ...]:
    """One curve per subject. Several values within one step (accumulation, closures) are spread over it."""
    rows = trace.rows(kind)
    curves = []
    subjects, index = _in_order(rows["subject"])
    for subject, mine in zip(subjects, _split(rows, index, len(subjects)), strict=True):
        known = trace.subjects.get(int(subject))
        curves.append(Curve(known.name if known else "", _spread(mine["step"]), mine[column].astype(np.float64)))
    return tuple(curves)


def _split(rows: Rows, index: NDArray[np.int64], parts: int) -> list[Records]:
    """The rows of each index, in their order."""
    ends = np.cumsum(np.bincount(index, minlength=parts))
    return np.split(np.asarray(rows[np.argsort(index, kind="stable")]), ends[:-1])[:parts]


def _spread(step: NDArray[np.int32]) -> Floats:
    begins, inverse, counts = np.unique(step, return_inverse=True, return_counts=True)
    by_step = np.argsort(inverse, kind="stable")
    place = np.empty(len(step), dtype=np.int64)
    place[by_step] = np.arange(len(step)) - np.repeat(np.cumsum(counts) - counts, counts)
    spread: Floats = begins[inverse] + place / counts[inverse]
    return spread


def _in_order(values: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """The different values in order of first appearance, and for each value its index there."""
    different, at, inverse = np.unique(values, return_index=True, return_inverse=True)
    order = np.argsort(at)
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    return different[order], rank[inverse.reshape(-1)]


def health_of(rows: Rows, kind: str) -> Codes:
    if kind not in TENSOR_KINDS:
        return _health(rows["value"])
    low, high, norm = rows["low"], rows["high"], rows["norm"]
    unmeasured = (rows["flags"] & NORM_ONLY) != 0
    ends = np.maximum(_health(low), _health(high))
    flagged = (rows["flags"] & BAD) != 0
    from_norm = np.where(flagged, np.where(np.isnan(norm), NAN, INF), FINITE)
    health: Codes = np.where(unmeasured | (flagged & (ends == FINITE)), from_norm, ends).astype(np.uint8)
    return health


def _health(values: Floats) -> Codes:
    return np.where(np.isnan(values), NAN, np.where(np.isinf(values), INF, FINITE)).astype(np.uint8)


def layer_points(trace: Trace, kind: str, measure: str, per_module: bool = False) -> Points:
    """The magnitude ("absmax" or "norm") of each row; per_module: without the path inside the output."""
    return _points(trace, trace.rows(kind), kind, measure, per_module)


def _points(trace: Trace, rows: Rows, kind: str, measure: str, per_module: bool) -> Points:
    subjects, index = _in_order(rows["subject"])
    labels = [_layer(trace, int(subject), per_module) for subject in subjects]
    layers = tuple(dict.fromkeys(labels))
    place = {label: number for number, label in enumerate(layers)}
    to_layer = np.array([place[label] for label in labels], dtype=np.int64)
    health = health_of(rows, kind)
    if kind not in TENSOR_KINDS:
        value = np.abs(rows["value"].astype(np.float64))
    else:
        norm = np.where(np.isfinite(rows["norm"]), rows["norm"], FLOAT32_MAX)
        ends = np.maximum(np.abs(rows["low"]), np.abs(rows["high"]))
        unmeasured = (rows["flags"] & NORM_ONLY) != 0
        value = norm if measure == "norm" else np.where(unmeasured, norm, ends)
    return Points(layers, to_layer[index], rows["step"].astype(np.int64), _marked(value, health), health)


def _marked(value: Floats, health: Codes) -> Floats:
    return np.where(health == NAN, np.nan, np.where(health == INF, np.inf, value))


def _layer(trace: Trace, subject: int, per_module: bool) -> str:
    known = trace.subjects.get(subject)
    if known is None:
        return f"(unnamed {subject})"
    if known.role == "parameter":
        return known.name.rpartition(".")[0]
    return known.name if per_module or not known.tensor else f"{known.name} [{known.tensor}]"


def parameters(trace: Trace, kind: str) -> Points:
    """The parameters of each layer at each step as one norm; a parameter's last row in a step counts."""
    rows = trace.rows(kind)
    key = rows["subject"].astype(np.int64) * (int(rows["step"].max(initial=0)) + 1) + rows["step"]
    last = np.zeros(len(rows), dtype=np.bool_)
    last[len(rows) - 1 - np.unique(key[::-1], return_index=True)[1]] = True
    return joined(_points(trace, rows[last | (health_of(rows, kind) != FINITE)], kind, "norm", False))


def joined(points: Points) -> Points:
    """The parameters of one layer at one step as one norm: root of the sum of squares, without overflow."""
    if not len(points.step):
        return points
    base = int(points.step.max()) + 1
    keys, inverse = np.unique(points.layer * base + points.step, return_inverse=True)
    total = np.zeros(len(keys))
    health = np.zeros(len(keys), dtype=np.uint8)
    finite = np.where(points.health == FINITE, points.value, 0.0)
    np.hypot.at(total, inverse.reshape(-1), finite)
    np.maximum.at(health, inverse.reshape(-1), points.health)
    return Points(points.layers, keys // base, keys % base, _marked(np.minimum(total, 1e308), health), health)


def points_as_curves(points: Points) -> tuple[Curve, ...]:
    """One curve per layer, in order of time."""
    curves = []
    for number, layer in enumerate(points.layers):
        mine = points.layer == number
        curves.append(Curve(layer, points.step[mine].astype(np.float64), points.value[mine]))
    return tuple(curves)


def grid(points: Points, first: int, last: int, layers: Sequence[str] | None = None) -> Grid:
    """Cells from step `first` to `last`; rows are `layers` (by default the points' own)."""
    rows = tuple(points.layers if layers is None else layers)
    width = max(1, -(-(last - first + 1) // MOST_COLUMNS))
    merged = max(1, -(-len(rows) // MOST_ROWS))
    shape = (-(-len(rows) // merged), -(-(last - first + 1) // width))
    place = {layer: number for number, layer in enumerate(rows)}
    to_row = np.array([place.get(layer, -1) for layer in points.layers] or [-1], dtype=np.int64)
    row = to_row[points.layer]
    inside = (row >= 0) & (points.step >= first) & (points.step <= last)
    cell = (row[inside] // merged) * shape[1] + (points.step[inside] - first) // width
    log = np.full(shape[0] * shape[1], -np.inf)
    health = np.zeros(shape[0] * shape[1], dtype=np.uint8)
    finite = points.health[inside] == FINITE
    with np.errstate(divide="ignore"):
        np.maximum.at(log, cell[finite], np.log10(points.value[inside][finite]))
    np.maximum.at(health, cell, points.health[inside])
    return Grid(rows, first, width, log.reshape(shape), health.reshape(shape), merged)


def renamed(points: Points, layer: str) -> Points:
    """All points as those of one layer (the loss, the batch)."""
    return replace(points, layers=(layer,), layer=np.zeros_like(points.layer))


def together(*parts: Points) -> Points:
    """Several sets of points as one."""
    layers = tuple(dict.fromkeys(layer for part in parts for layer in part.layers))
    place = {layer: number for number, layer in enumerate(layers)}
    index = [np.array([place[layer] for layer in part.layers] or [0], dtype=np.int64)[part.layer] for part in parts]
    return Points(
        layers,
        np.concatenate(index),
        np.concatenate([part.step for part in parts]),
        np.concatenate([part.value for part in parts]),
        np.concatenate([part.health for part in parts]),
    )
