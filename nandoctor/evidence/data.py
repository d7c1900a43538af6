"""What the loader delivered: ranges of float tensors, ranges of labels."""

import math
from dataclasses import dataclass

import numpy as np

from ..trace.schema import BAD
from ..trace.trace import Rows, Trace
from . import made
from .onset import Onset
from .series import EMPTY, Floats, Series, median
from .sizes import WHOLE, elements, root_mean_square

FEW_LABELS = 8  # an index of fewer places is written by hand
VERY_LOUD = 300.0  # times the usual largest value: beyond the p10 of the outliers of the study, E25
IGNORED_LABEL = -100  # ignore_index of torch's losses: below zero and still no mistake
ROUNDING = 1e-3  # of a probability
VOID = (127, 255, 999, 9999, 32767, 65535)  # codes for "no label" that data sets use; no class count ends there
FAR_BEYOND = 2.0  # times the largest class
ENOUGH = 3  # losses that make a median
MOST = 0.95  # of the batches: a few stray targets are not the range
EARLY = 20  # steps whose batches say of what scale the data are
JUMP = 30.0  # times the batch before: targets that a model makes itself grow with it, and do not jump
LOOK_BACK = 2  # a loud batch shows in the loss one or two steps later (onset-2..onset, E25)


@dataclass(frozen=True)
class Data:
    loudest_tensor: str | None  # float tensor whose largest value stands out most around onset
    loudest_ratio: float | None  # its absmax / the median absmax of its other batches, E25
    loudest_absmax: float | None
    loudest_step: int | None
    loud_batches: int  # of one tensor, anywhere in the run, with values 300 times its median absmax
    first_absmax: float | None  # the largest value of the first batch: never normalised?
    first_tensor: str | None
    bad_batches: int  # batches that hold NaN or Inf
    batches: int
    model_inputs_bad: bool | None  # a model was given NaN or Inf; None: what it was given at the failure was not seen
    labels_low: float | None
    labels_high: float | None
    wrapped_labels: tuple[int, float] | None  # (step, lowest) of an index of the loss with places below 0 beside others
    negative_labels: tuple[int, str] | None  # (step, tensor) of a label below 0 that is not -100
    all_ignored: tuple[int, str] | None  # (step, tensor) of a batch whose every label is -100
    first_loud: int | None = None  # the step of the earliest of the loud batches
    outside: tuple[int, str, float, float] | None = None  # (step, loss, low, high) of a target that is no probability
    mixed: float | None = None  # span of a batch's class labels / span of all; 0: one class at a time
    void: tuple[int, str, float] | None = None  # (step, tensor, code) of loader labels that mean "none", and are used
    fewest_rows: int | None = None  # of what a model was given at the step of failure
    rms: float | None = None  # of the inputs of the first steps, of the loudest tensor
    rms_tensor: str | None = None
    target_rms: float | None = None  # likewise of what the loss compares with
    target_tensor: str | None = None
    loud_cost: float | None = None  # median loss of the loud batches / of the others, over the second half
    targets_move: bool = False  # they change their size while models train: one of these makes them
    inputs_bad_from: int | None = None  # step at which a model was first given NaN or Inf
    last_tensor: str | None = None  # of what a loader gives, by place
    target_span: float | None = None  # spread of a batch's float targets / of all; 0: they are sorted

    @property
    def scale(self) -> float | None:
        """rms of the louder of inputs and targets."""
        known = [size for size in (self.rms, self.target_rms) if size is not None]
        return max(known) if known else None


def gather(trace: Trace, onset: Onset, losses: Series = EMPTY) -> Data | None:
    batches, labels, given = trace.rows("batch"), trace.rows("labels"), made.without(trace, trace.rows("input"))
    batches = batches if len(batches) else given  # no DataLoader: what the model was given
    if len(batches) == 0 and len(labels) == 0 and len(trace.rows("target")) == 0:
        return None
    batches, labels = _of_training(batches), _of_training(labels)
    batches = _many(trace, batches[~np.isin(batches["dtype"], WHOLE)])
    aims = _sudden(trace.rows("target"))
    rms, rms_tensor = _scale(trace, [batches if len(given) == 0 else _many(trace, _floats(given))])
    target_rms, target_tensor = _scale(trace, [trace.rows("target")])
    loudest: tuple[float, str | None, float, int] | None = None
    loud, first_loud = 0, None
    loud_cost: float | None = None
    tensors = [rows[rows["subject"] == s] for rows in (batches, aims) for s in np.unique(rows["subject"])]
    for own in tensors:
        subject, steps = own["subject"][0], _loud(own)
        loud_cost = _cost(steps, losses) if len(steps) > loud else loud_cost
        loud = max(loud, len(steps))
        first_loud = min([*steps[:1], *([] if first_loud is None else [first_loud])], default=None)
        found = _stands_out(own, onset)
        if found is not None and (loudest is None or found[0] > loudest[0]):
            loudest = (found[0], _name(trace, int(subject)), found[1], found[2])
    first_absmax, first_tensor = max((_first(trace, rows) for rows in (batches, aims)), key=lambda f: f[0] or 0.0)
    used = np.array([s.id for s in trace.subjects.values() if s.role == "loss"], np.int64)
    indexed = labels[np.isin(labels["subject"], used)]  # what a loss was computed with; the rest came from a loader
    labels = labels[~np.isin(labels["subject"], used)]
    low, high, sizes = labels["low"], labels["high"], elements(trace, labels["shape"])
    below = labels[(low < 0) & (low != IGNORED_LABEL)]
    empty = labels[(sizes > 0) & (labels["ignored"] >= sizes)]
    nothing = indexed[(indexed["ignored"] > 0) & (indexed["ignored"] >= elements(trace, indexed["shape"]))]
    return Data(
        loudest_tensor=loudest[1] if loudest else None,
        loudest_ratio=loudest[0] if loudest else None,
        loudest_absmax=loudest[2] if loudest else None,
        loudest_step=loudest[3] if loudest else None,
        loud_batches=loud,
        first_loud=first_loud,
        outside=_no_probability(trace),
        mixed=_mixed(trace, indexed if len(indexed) else labels),
        void=_void(trace, labels, indexed),
        fewest_rows=_fewest_rows(trace, given, onset.failed),
        rms=rms,
        rms_tensor=rms_tensor,
        target_rms=target_rms,
        target_tensor=target_tensor,
        loud_cost=loud_cost,
        target_span=_target_span(trace, batches),
        targets_move=made.targets_move(trace),
        first_absmax=first_absmax,
        first_tensor=first_tensor,
        bad_batches=int(((batches["flags"] & BAD) != 0).sum()),
        batches=len(batches),
        model_inputs_bad=_model_inputs_bad(given, onset.failed),
        inputs_bad_from=min(given["step"][(given["flags"] & BAD) != 0].tolist(), default=None),
        last_tensor=_last_tensor(trace),
        labels_low=float(low.min()) if len(labels) else None,
        labels_high=float(high.max()) if len(labels) else None,
        wrapped_labels=_wrapped(trace, indexed),
        negative_labels=_where(trace, below),
        all_ignored=_where(trace, empty) or _where(trace, nothing),
    )


def _model_inputs_bad(given: Rows, step: int) -> bool | None:
    if ((given["flags"] & BAD) != 0).any():
        return True
    return False if (given["step"] == step).any() else None  # not every step is recorded whole


def _last_tensor(trace: Trace) -> str | None:
    places = [s.name for s in trace.subjects.values() if s.role == "batch" and str(s.name).isdigit()]
    return max(places, key=int, default=None)


def _floats(rows: Rows) -> Rows:
    return _of_training(rows[~np.isin(rows["dtype"], WHOLE)])


def _many(trace: Trace, rows: Rows) -> Rows:
    """Without single numbers: a count or a weight handed on with the data, as Trainer's num_items_in_batch."""
    return rows[elements(trace, rows["shape"]) > 1]


def _scale(trace: Trace, kinds: list[Rows]) -> tuple[float | None, str | None]:
    """Median over the first steps, of the tensor where it is largest."""
    best: tuple[float | None, str | None] = (None, None)
    for rows in kinds:
        rows = rows[rows["step"] < EARLY]
        for subject in np.unique(rows["subject"]):
            own = rows[rows["subject"] == subject]
            size = median(root_mean_square(trace, own))
            if size is not None and (best[0] is None or size > best[0]):
                best = (size, _name(trace, int(subject)))
    return best


def _mixed(trace: Trace, rows: Rows) -> float | None:
    """Labels of classes only: values of a series that is read in order go together, too."""
    names = [s.id for s in trace.subjects.values() if s.role != "loss" or str(s.name).startswith("NllLoss")]
    low, high = rows["low"], rows["high"]
    whole = (elements(trace, rows["shape"]) >= FEW_LABELS) & np.isfinite(low) & np.isfinite(high) & (low >= 0)
    own = np.isin(rows["subject"], names) & whole
    if int(own.sum()) < FEW_LABELS or len(np.unique(rows["subject"][own])) > 1:
        return None
    span = float(high[own].max() - low[own].min())
    return float(np.median(high[own] - low[own])) / span if span > 0 else None


def _void(trace: Trace, labels: Rows, indexed: Rows) -> tuple[int, str, float] | None:
    """A code far beyond the classes that the loss was indexed with: it was clamped, masked or wrapped into one."""
    classes = indexed[elements(trace, indexed["shape"]) >= FEW_LABELS]
    if len(classes) == 0:
        return None
    largest = float(classes["high"].max())
    own = labels[np.isin(labels["high"], VOID) & (labels["high"] > FAR_BEYOND * max(largest, 1.0))]
    counts = elements(trace, own["shape"])
    own = own[np.isin(counts, elements(trace, classes["shape"]))]  # of the size of what the loss compares with
    if len(own) == 0:
        return None
    return int(own["step"][0]), _name(trace, int(own["subject"][0])) or "labels", float(own["high"][0])


def _fewest_rows(trace: Trace, given: Rows, step: int) -> int | None:
    shapes = (trace.shapes.get(int(s), ()) for s in given["shape"][given["step"] == step])
    return min((shape[0] for shape in shapes if len(shape) > 1), default=None)


def _no_probability(trace: Trace) -> tuple[int, str, float, float] | None:
    names = {s.id: s.name for s in trace.subjects.values() if str(s.name).startswith("BinaryCrossEntropy")}
    rows = trace.rows("target")
    own = rows[np.isin(rows["subject"], list(names)) & ((rows["low"] < -ROUNDING) | (rows["high"] > 1 + ROUNDING))]
    if len(own) == 0:
        return None
    return int(own["step"][0]), names[int(own["subject"][0])], float(own["low"].min()), float(own["high"].max())


def _sudden(rows: Rows) -> Rows:
    """Targets as the data gave them: without those that grew step by step, as a model's own predictions do."""
    if len(rows) == 0:
        return rows
    keep = np.ones(len(rows), bool)
    for subject in np.unique(rows["subject"]):
        own = np.flatnonzero(rows["subject"] == subject)
        loud = _absmax(rows[own])
        usual = median(loud) or 0.0
        with np.errstate(all="ignore"):
            quiet_before = np.concatenate([[True], loud[1:] > JUMP * loud[:-1]])
        grown = (loud > JUMP * usual) & ~quiet_before
        repeated = np.concatenate([[False], loud[1:] == loud[:-1]])  # the same sentinel again
        keep[own] = ~grown | repeated
    kept: Rows = rows[keep]
    return kept


def _of_training(rows: Rows) -> Rows:
    """All of them where the model was never in training mode: then evaluation and training are not told apart."""
    own = rows[rows["mode"] == 0]
    return own if len(own) else rows


def _absmax(rows: Rows) -> Floats:
    return np.asarray(np.maximum(np.abs(rows["low"]), np.abs(rows["high"])), np.float64)


def _wrapped(trace: Trace, rows: Rows) -> tuple[int, float] | None:
    """Python takes x[-1] for the last class. One place alone, or all below 0, is meant so."""
    names = {s.id for s in trace.subjects.values() if s.name == "Index"}
    mixed = (rows["low"] < 0) & (rows["high"] >= 0) & (elements(trace, rows["shape"]) >= FEW_LABELS)
    own = rows[mixed & np.isin(rows["subject"], list(names))]
    return (int(own["step"][0]), float(own["low"].min())) if len(own) else None


def _loud(rows: Rows) -> list[int]:
    """The steps of its loud batches."""
    sizes = _absmax(rows)
    usual = median(sizes) or 0.0
    return sorted(rows["step"][np.isfinite(sizes) & (sizes > VERY_LOUD * usual)].tolist()) if usual > 0 else []


def _cost(steps: list[int], losses: Series) -> float | None:
    half = Series(losses.steps[len(losses) // 2 :], losses.values[len(losses) // 2 :])
    loud = np.isin(half.steps, steps)
    if min(int(loud.sum()), int((~loud).sum())) < ENOUGH:
        return None
    dear, usual = median(half.values[loud]), median(half.values[~loud])
    return dear / usual if dear is not None and usual else None


def _target_span(trace: Trace, batches: Rows) -> float | None:
    """Of the last tensor that the loader gives beside another, one number a sample."""
    subjects = np.unique(batches["subject"])
    own = batches[batches["subject"] == subjects[-1]] if len(subjects) > 1 else batches[:0]
    shapes = [trace.shapes.get(int(s), ()) for s in own["shape"]]
    if len(own) < FEW_LABELS or any(math.prod(s) != s[0] or s[0] < FEW_LABELS for s in shapes if s) or not all(shapes):
        return None
    with np.errstate(all="ignore"):
        everything = np.quantile(own["high"], MOST) - np.quantile(own["low"], 1 - MOST)
        return float(np.median(own["high"] - own["low"]) / everything) if everything > 0 else None


def _stands_out(rows: Rows, onset: Onset) -> tuple[float, float, int] | None:
    """(ratio, absmax, step) of the loudest batch around onset against the median of the others."""
    loud = _absmax(rows)
    finite = np.isfinite(loud)
    near = finite & (rows["step"] >= onset.step - LOOK_BACK) & (rows["step"] <= onset.failed)
    usual = loud[finite & (rows["step"] < onset.step - LOOK_BACK)]
    if len(usual) == 0:
        usual = loud[finite & ~near]
    if not near.any() or len(usual) == 0 or np.median(usual) <= 0:
        return None
    place = int(np.argmax(np.where(near, loud, -1)))
    return float(loud[place] / np.median(usual)), float(loud[place]), int(rows["step"][place])


def _first(trace: Trace, batches: Rows) -> tuple[float | None, str | None]:
    if len(batches) == 0:
        return None, None
    first = batches[batches["step"] == batches["step"][0]]
    loud = _absmax(first)
    if not np.isfinite(loud).any():
        return None, None
    place = int(np.argmax(np.where(np.isfinite(loud), loud, -1)))
    return float(loud[place]), _name(trace, int(first["subject"][place]))


def _where(trace: Trace, rows: Rows) -> tuple[int, str] | None:
    return (int(rows[0]["step"]), _name(trace, int(rows[0]["subject"])) or "labels") if len(rows) else None


def _name(trace: Trace, number: int) -> str | None:
    subject = trace.subjects.get(number)
    if subject is None:
        return None
    return f"{subject.name}.{subject.tensor}" if subject.tensor and subject.name else subject.tensor or subject.name
