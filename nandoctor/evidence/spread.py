"""How far the samples of a batch still differ, layer by layer: what all of them have in common tells nothing."""

from dataclasses import dataclass

import numpy as np

from ..trace.trace import Rows, Trace
from .series import median

STEPS = 20  # steps that are read, from the first on
LAST_LOOKS = 8


@dataclass(frozen=True)
class Spread:
    """Shares: what is left of the difference between samples at a layer / the largest of the layers before it."""

    left: float  # at first, where the least is left
    layer: str
    left_late: float | None  # at that layer, at the last looks
    at_once: float = 1.0  # against the layer right before it: what shrinks layer by layer keeps a part at each


def gather(trace: Trace) -> Spread | None:
    rows = trace.rows("spread")
    rows = rows[np.isfinite(rows["value"])]
    steps = np.unique(rows["step"])
    if len(steps) == 0:
        return None
    early = _by_layer(rows[rows["step"] < steps[0] + STEPS])
    if len(early) < 2:
        return None
    order = list(early)
    shares = [early[s] / max(early[b] for b in order[:place]) if max(early[b] for b in order[:place]) > 0 else 1.0
              for place, s in enumerate(order) if place]  # fmt: skip
    place = int(np.argmin(shares)) + 1
    late = _by_layer(rows[rows["step"] >= steps[-min(LAST_LOOKS, len(steps))]])
    upstream = max((late.get(s, 0.0) for s in order[:place]), default=0.0)
    subject = trace.subjects.get(order[place])
    return Spread(
        left=shares[place - 1],
        layer=subject.name if subject is not None else "",
        at_once=early[order[place]] / early[order[place - 1]] if early[order[place - 1]] > 0 else 1.0,
        left_late=late[order[place]] / upstream if order[place] in late and upstream > 0 else None,
    )


def _by_layer(rows: Rows) -> dict[int, float]:
    """In order of the forward pass."""
    return {int(s): median(rows["value"][rows["subject"] == s]) or 0.0 for s in dict.fromkeys(rows["subject"].tolist())}
