"""What the optimizer was told, and how large its steps were against the weights."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..trace.trace import Rows, Trace
from . import fields
from .onset import Onset
from .series import Floats, Series, median, per_step

ADAPTIVE = ("adam", "rmsprop", "adagrad", "adadelta", "radam", "nadam", "lion", "adafactor", "rprop", "lamb")
LATEST = 20  # steps, as in the window before an onset


@dataclass(frozen=True)
class Optimizer:
    name: str  # class
    adaptive: bool  # its step does not scale with the gradient
    settings: Mapping[str, float]  # numbers of the first group: momentum, eps, weight_decay
    optimizers: int  # in the run
    lr: float | None  # at onset, the largest of the groups
    lr_first: float | None
    lr_peak: float | None
    lr_finite: bool
    hot_group: str | None  # the group with the largest lr, where they differ by 10 or more
    update_ratio: float | None  # norm of update / norm of weights, median before onset, E15
    update_ratio_first: float | None
    update_ratio_onset: float | None
    update_ratio_peak: float | None  # the largest of the whole run
    hottest_layer: str | None
    hottest_ratio: float | None  # of one weight matrix, median before onset
    promised: float | None  # norm of update x norm of gradient / loss, median before onset: see gather
    update_ratio_late: float | None = None  # median of the last that were recorded


def rates(trace: Trace) -> Series:
    """The learning rate by step, the highest of all groups."""
    rows = trace.rows("learning_rate")
    return per_step(rows["step"], rows["value"], "max")


def gather(trace: Trace, onset: Onset, losses: Series, gradients: Series) -> Optimizer | None:
    """`promised` bounds what a step promised to cut from the loss: above 1 it is more than there is.

    For plain SGD it is lr * |g|^2 / loss, the step against Polyak's; a healthy run stays far below 1.
    """
    notes = trace.notes_of("optimizer")
    rates = trace.rows("learning_rate")
    if not notes and len(rates) == 0:
        return None
    name = (fields.words(notes[0], "class") if notes else None) or "optimizer"
    name = name.rpartition(".")[2]
    ratios = _Ratios(trace)
    before = ratios.by_step(onset.window[0], onset.step)
    first = ratios.by_step(0, 1)
    every = ratios.by_step(0, 2**31)
    around = ratios.by_step(onset.step, onset.failed + 1)
    hottest, hottest_ratio = ratios.hottest(onset.window[0], max(onset.step, 1))
    lr = per_step(rates["step"], rates["value"], "max")
    until = lr.between(0, onset.step + 1)
    finite = lr.values[np.isfinite(lr.values)]
    peak = around.values[np.isfinite(around.values)]
    return Optimizer(
        name=name,
        adaptive=any(word in name.lower() for word in ADAPTIVE),
        settings=_settings(notes),
        optimizers=len({str(note.get("id")) for note in notes}) or 1,
        lr=float(until.values[-1]) if len(until) else None,
        lr_first=float(lr.values[0]) if len(lr) else None,
        lr_peak=float(finite.max()) if len(finite) else None,
        lr_finite=bool(np.isfinite(lr.values).all()),
        hot_group=_hot_group(trace, rates),
        update_ratio=median(before.values),
        update_ratio_first=median(first.values),
        update_ratio_onset=float(peak.max()) if len(peak) else None,
        update_ratio_peak=_largest(every.values),
        update_ratio_late=median(every.between(0, onset.failed + 1).values[-LATEST:]),
        hottest_layer=hottest,
        hottest_ratio=hottest_ratio,
        promised=_promised(ratios.updates(onset.window[0], max(onset.step, 1)), losses, gradients),
    )


def _largest(values: Floats) -> float | None:
    finite = values[np.isfinite(values)]
    return float(finite.max()) if len(finite) else None


def _settings(notes: list[Mapping[str, Any]]) -> dict[str, float]:
    groups = [group for note in notes[:1] for group in fields.items(note, "groups") if isinstance(group, Mapping)]
    found = {}
    for key in groups[0] if groups else ():
        value = fields.number(groups[0], str(key))
        if value is not None:
            found[str(key)] = value
    betas = fields.items(groups[0], "betas") if groups else []
    for position, beta in enumerate(betas[:2], start=1):
        if isinstance(beta, (int, float)) and not isinstance(beta, bool):
            found[f"beta{position}"] = float(beta)
    return found


def _hot_group(trace: Trace, rates: Rows) -> str | None:
    subjects = np.unique(rates["subject"])
    highest = {int(s): float(np.nanmax(rates["value"][rates["subject"] == s], initial=0)) for s in subjects}
    positive = [lr for lr in highest.values() if lr > 0]
    if len(positive) < 2 or max(positive) < 10 * min(positive):
        return None
    subject = trace.subjects.get(max(highest, key=lambda s: highest[s]))
    return subject.name if subject else None


def _promised(updates: Series, losses: Series, gradients: Series) -> float | None:
    values = []
    for step, update in zip(updates.steps, updates.values, strict=True):
        loss, gradient = losses.at(int(step)), gradients.at(int(step))
        if loss is not None and gradient is not None and loss > 0:
            values.append(float(update) * float(gradient) / loss)
    return median(np.array(values))


class _Ratios:
    """Update norms against weight norms. Weights may be recorded more rarely than updates."""

    def __init__(self, trace: Trace) -> None:
        self.rows = trace.rows("update")
        weights = trace.rows("weight")
        self.names = {number: subject.name for number, subject in trace.subjects.items()}
        self.weights: dict[str, tuple[Any, Any]] = {}
        self.matrices: set[str] = set()
        for subject in np.unique(weights["subject"]):
            rows = weights[weights["subject"] == subject]
            name = self.names.get(int(subject), str(int(subject)))
            self.weights[name] = (rows["step"], rows["norm"])
            if len(trace.shapes.get(int(rows["shape"][0]), ())) >= 2:
                self.matrices.add(name)

    def _weight(self, name: str, step: int) -> float:
        steps, norms = self.weights.get(name, (None, None))
        if steps is None:
            return math.nan
        return float(
            norms[max(0, int(np.searchsorted(steps, step, side="left")) - 1)]
        )  # the weight that the update met

    def updates(self, first: int, stop: int) -> Series:
        rows = self.rows[(self.rows["step"] >= first) & (self.rows["step"] < stop)]
        return per_step(rows["step"], rows["norm"], "norm")

    def by_step(self, first: int, stop: int) -> Series:
        """Over all parameters: root of the summed squares of updates / of weights."""
        total = self.updates(first, stop)
        with np.errstate(all="ignore"):
            whole = [np.linalg.norm([self._weight(name, int(s)) for name in self.weights]) for s in total.steps]
            return Series(total.steps, total.values / np.array(whole, np.float64))

    def hottest(self, first: int, stop: int) -> tuple[str | None, float | None]:
        rows = self.rows[(self.rows["step"] >= first) & (self.rows["step"] < stop)]
        best: tuple[str | None, float | None] = (None, None)
        for subject in np.unique(rows["subject"]):
            name = self.names.get(int(subject), str(int(subject)))
            if name not in self.matrices:
                continue  # a bias starts at zero: its ratio means nothing
            mine = rows[rows["subject"] == subject]
            with np.errstate(all="ignore"):
                weights = np.array([self._weight(name, int(s)) for s in mine["step"]])
                ratio = median(mine["norm"] / weights)
            if ratio is not None and (best[1] is None or ratio > best[1]):
                best = (name, ratio)
        return best
