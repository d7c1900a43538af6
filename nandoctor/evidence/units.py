"""Units that never fire, seen over a window of looks (E32)."""

import math
from dataclasses import dataclass

import numpy as np

from ..trace.trace import Rows, Trace
from .layers import classes, graph_nodes
from .sizes import LARGEST

FEW_LOOKS = 8  # looks in a row: at the first steps alone everything may be silent by chance
MOST = 0.5  # of a layer's units, silent in the whole window and without gradient (E32)
APART = 0.2  # silent units and those without gradient are the same ones, but for a few
UNITS = 4  # a layer of fewer units dies by chance


@dataclass(frozen=True)
class DeadLayer:
    layer: str
    module: str
    silent: float  # share of units never above 0 in the last full window
    still: float | None  # share of the rows of its weight that got no gradient in that window
    units: int
    looks: int
    at_first: float | None = None  # share of units that were silent in the very first batch


@dataclass(frozen=True)
class Units:
    dead: tuple[DeadLayer, ...]  # layers with a silent unit, the worst first
    relu: bool  # the graph has an activation that is flat below 0
    unmoved: float = 0.0  # of the elements of matrices that no module holds: no gradient in the whole window
    starved: tuple[str, ...] = ()  # layers whose bias gets gradients and whose weight none: what they are given is 0


def dead_share(dead: DeadLayer) -> float:
    """Units that are silent and get no gradient: at most the smaller of both shares. Something may stand between a
    layer and its ReLU: then they get no gradient although the layer's own output is above 0.
    """
    if dead.still is None:
        return 0.0
    if dead.still > dead.silent + APART:  # units that fire get no gradient either
        return dead.still if dead.still < 1 else 0.0  # what comes behind them is flat for these, or the graph is cut
    return min(dead.silent, dead.still)


def gather(trace: Trace) -> Units | None:
    silent, still = trace.rows("silent_units"), trace.rows("still_units")
    if len(silent) == 0 and len(still) == 0:
        return None
    nodes = graph_nodes(trace)
    modules = classes(trace)
    first = _first(silent)
    weights = {trace.subjects[s].name: row for s, row in _last(still).items() if s in trace.subjects}
    found = []
    for subject, row in _last(silent).items():
        name = trace.subjects[subject].name if subject in trace.subjects else str(subject)
        own = weights.get(f"{name}.weight", weights.get(f"{name}.bias"))
        units = int(row["of"])
        if units < UNITS:
            continue
        share = float(own["value"] / own["of"]) if own is not None and own["of"] > 0 else None
        silence = float(row["value"] / units)
        dead = DeadLayer(name, modules.get(name, ""), silence, share, units, int(row["looks"]), first.get(subject))
        if dead.silent > 0 or dead_share(dead) >= MOST:
            found.append(dead)
    still_names = {name: float(row["value"] / row["of"]) for name, row in weights.items() if row["of"] > 0}
    return Units(
        unmoved=_unmoved(trace, still) if not modules else 0.0,
        starved=tuple(
            name.removesuffix(".weight")
            for name, share in still_names.items()
            if name.endswith(".weight") and share == 1 and still_names.get(name[: -len("weight")] + "bias", 1.0) < MOST
        ),
        dead=tuple(sorted(found, key=lambda d: (-dead_share(d), -min(d.silent, 1.0 if d.still is None else d.still)))),
        relu=any(name.startswith(("Relu", "Threshold", "Hardtanh", "Relu6")) for name in nodes),
    )


def _unmoved(trace: Trace, still: Rows) -> float:
    """Tensors without modules have no layers whose outputs could be looked at; their gradients tell as much."""
    total = silent = 0.0
    for row in _last(still).values():
        shape = trace.shapes.get(int(row["shape"]), ())
        if len(shape) > 1:
            total += math.prod(shape)
            silent += math.prod(shape) * (row["value"] == row["of"])
    return float(silent / total) if total else 0.0


def _first(rows: Rows) -> dict[int, float]:
    """By subject, the share of units that were silent at the first look."""
    found: dict[int, float] = {}
    for row in rows[(rows["of"] > 0) & np.isfinite(rows["value"])]:
        found.setdefault(int(row["subject"]), float(row["value"] / row["of"]))
    return found


def _last(rows: Rows) -> dict[int, np.void]:
    """By subject, the last row of a window that has looks enough."""
    found: dict[int, np.void] = {}
    sound = np.isfinite(rows["of"]) & (rows["of"] < LARGEST) & np.isfinite(rows["value"]) & (rows["looks"] < LARGEST)
    enough = rows[(rows["looks"] >= FEW_LOOKS) & sound]
    for row in enough:
        found[int(row["subject"])] = row
    return found
