"""Which of the tensors that models were given were made by models: a generator's output is no data."""

import numpy as np
from numpy.typing import NDArray

from ..trace.schema import BAD
from ..trace.trace import Rows, Trace
from .series import Floats

DRIFT, SURELY = 1.2, 5.0  # times; standard errors: targets of one model that another, which learns, has made
FEW = 30  # targets in a third of the rows
MIXED = 30.0  # times what was given otherwise: a mixture of data and output is as loud as the output is


def by_models(trace: Trace, given: Rows) -> NDArray[np.bool_]:
    """Rows whose tensor has, to the last bit, the ends of an output that a layer gave before it in the same step."""
    found = np.zeros(len(given), bool)
    if len(trace.notes_of("model")) < 2 or len(given) == 0:
        return found
    outputs = trace.rows("activation")
    outputs = outputs[np.isin(outputs["low"], given["low"])]  # few are left of millions
    first: dict[tuple[int, float, float], int] = {}
    ends = (outputs[name].tolist() for name in ("step", "low", "high", "order"))
    for step, low, high, order in zip(*ends, strict=True):
        first.setdefault((step, low, high), order)
    for place, row in enumerate(given):
        earlier = first.get((int(row["step"]), float(row["low"]), float(row["high"])))
        found[place] = earlier is not None and earlier < int(row["order"]) and row["low"] < row["high"]
    return found


def without(trace: Trace, given: Rows) -> Rows:
    """What is data: without the tensors that models made, and those that are as loud as these and mixed from them."""
    made = by_models(trace, given)
    if not made.any():
        return given
    size = np.maximum(np.abs(given["low"]), np.abs(given["high"]))
    keep = ~made
    for subject in np.unique(given["subject"][made]):
        own = given["subject"] == subject
        usual = float(np.median(size[own & ~made])) if (own & ~made).any() else 0.0
        loudest = _by_step(given["step"][own & made], size[own & made])
        beside = np.array([loudest.get(int(step), 0.0) for step in given["step"]])
        keep &= ~(own & (size > MIXED * usual) & (size <= beside))
    kept: Rows = given[keep]
    return kept


def spoiled(trace: Trace) -> tuple[str, ...]:
    """Names of the tensors that a model or a loader was given with NaN in them, and that no model made."""
    found: list[str] = []
    for kind in ("batch", "input"):
        rows = without(trace, trace.rows(kind))
        for subject in np.unique(rows["subject"][(rows["flags"] & BAD) != 0]):
            own = trace.subjects.get(int(subject))
            if own is not None and own.tensor:
                found.append(own.tensor)
    return tuple(dict.fromkeys(found))


def targets_move(trace: Trace) -> bool:
    """Targets of one size at the beginning and of another later, in a training of several models: a target network's,
    a teacher's. The loss then tells nothing of progress.
    """
    rows = trace.rows("target")
    if len(trace.notes_of("model")) < 2 or len(np.unique(rows["subject"])) != 1 or len(rows) < 3 * FEW:
        return False
    early, late = rows["norm"][: len(rows) // 3], rows["norm"][-(len(rows) // 3) :]
    low, high = sorted((float(early.mean()), float(late.mean())))
    error = float(np.sqrt((early.var() + late.var()) / len(early)))
    return high >= DRIFT * low > 0 and high - low >= SURELY * error


def _by_step(steps: NDArray[np.integer], sizes: Floats) -> dict[int, float]:
    found: dict[int, float] = {}
    for step, size in zip(steps.tolist(), sizes.tolist(), strict=True):
        found[step] = max(size, found.get(step, 0.0))
    return found
