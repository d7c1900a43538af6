"""How much of the model is trained at all: parameters that no optimizer moves, and how far the weights travel."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..trace.trace import Rows, Trace
from . import fields, made
from .series import median

NOTHING_LEFT = 1e-3  # of the peak


@dataclass(frozen=True)
class Trained:
    parameters: int  # elements of all models
    moved: float | None  # share of the elements that got updates that were not zero
    left_out: tuple[str, ...]  # parameters that never got one, the largest first
    forgotten: float | None  # share of the elements that want a gradient, in a model that is trained, and never moved
    travelled: float | None  # norm of the sum of all updates / norm of the weights, at most: sum of update norms
    lr_late: float | None  # lr at the end / its peak
    spent: float = 0.0  # share of the run after lr had fallen below a thousandth of its peak for good
    idle: tuple[str, ...] = ()  # models that want gradients and never move, beside one that does; see _idle


def gather(trace: Trace) -> Trained | None:
    updates = trace.rows("update")
    sizes: dict[str, int] = {}
    wanted: dict[str, int] = {}
    for note in trace.notes_of("model"):
        for entry in fields.items(note, "parameters"):
            if isinstance(entry, (list, tuple)) and len(entry) >= 2 and isinstance(entry[1], (list, tuple)):
                sizes[str(entry[0])] = math.prod(int(n) for n in entry[1] if isinstance(n, int))
                if len(entry) >= 4 and entry[3] is True:
                    wanted[str(entry[0])] = sizes[str(entry[0])]
    if not sizes or len(updates) == 0:
        return None
    moving = updates[updates["norm"] > 0]
    names = {trace.subjects[int(s)].name for s in np.unique(moving["subject"]) if int(s) in trace.subjects}
    known = {name: size for name, size in sizes.items() if name in names}
    missing = sorted((name for name in sizes if name not in names), key=lambda name: -sizes[name])
    gradients = trace.rows("parameter_gradient")  # as an optimizer is about to use them: it was given these
    given = {trace.subjects[int(s)].name for s in np.unique(gradients["subject"]) if int(s) in trace.subjects}
    total = sum(sizes.values())
    rates = trace.rows("learning_rate")["value"]
    rates = rates[np.isfinite(rates)]
    return Trained(
        parameters=total,
        moved=sum(known.values()) / total if total and names & set(sizes) else None,
        left_out=tuple(missing[:5]),
        forgotten=sum(size for name, size in wanted.items() if name not in (names | given)) / sum(wanted.values())
        if wanted and names & set(sizes)
        else None,
        travelled=_travelled(trace, updates),
        lr_late=float(rates[-1] / rates.max()) if len(rates) and rates.max() > 0 else None,
        spent=_spent(trace),
        idle=_idle(trace, names),
    )


def _spent(trace: Trace) -> float:
    rows = trace.rows("learning_rate")
    if len(np.unique(rows["subject"])) != 1 or not np.isfinite(rows["value"]).all():
        return 0.0
    going = np.flatnonzero(rows["value"] >= NOTHING_LEFT * rows["value"].max())
    return 1 - (int(going[-1]) + 1) / len(rows) if len(going) else 0.0


def _idle(trace: Trace, moving: set[str]) -> tuple[str, ...]:
    """Models that the loss asks to move, or an optimizer was given, and that stay where they are to the end.

    Gradients flow through a frozen network to the one before it, too: that one is no such model. A target network and
    a teacher get no gradients, and no optimizer holds them. One whose gradients are exactly 0 is another cause's.
    """
    models = {fields.words(note, "name") or "": note for note in trace.notes_of("model")}
    if len(models) < 2:
        return ()
    held = {str(name) for note in trace.notes_of("optimizer") for group in fields.items(note, "groups")
            if isinstance(group, Mapping) for name in fields.items(group, "parameters")}  # fmt: skip
    outputs = trace.rows("output_gradient")
    outputs = outputs[(outputs["mode"] == 0) & (outputs["norm"] > 0)]
    asked = {trace.subjects[int(s)].name for s in np.unique(outputs["subject"]) if int(s) in trace.subjects}
    had = {trace.subjects[int(s)].name for s in np.unique(trace.rows("parameter_gradient")["subject"])}
    given = trace.rows("input")
    fed = given[made.by_models(trace, given)]
    behind = {trace.subjects[int(s)].name for s in np.unique(fed["subject"]) if int(s) in trace.subjects}
    found = []
    for name, note in models.items():
        wanted = [f"{name}.{entry[0]}" for entry in fields.items(note, "parameters")
                  if isinstance(entry, (list, tuple)) and len(entry) >= 4 and entry[3] is True]  # fmt: skip
        if not wanted or name in behind or not any(n.startswith(f"{m}.") for n in moving for m in models if m != name):
            continue
        used = any(layer == name or layer.startswith(f"{name}.") for layer in asked)
        if not moving & set(wanted) and not had & set(wanted) and (used or held & set(wanted)):
            found.append(name)
    return tuple(found)


def _travelled(trace: Trace, updates: Rows) -> float | None:
    weights = trace.rows("weight")
    found = []
    for subject in np.unique(updates["subject"]):
        own = weights[weights["subject"] == subject]["norm"]
        norms = updates[updates["subject"] == subject]["norm"]
        norms = norms[np.isfinite(norms)]
        if len(own) and own[0] > 0 and len(norms):
            found.append(float(norms.sum()) / float(own[0]))
    return median(np.array(found)) if found else None
