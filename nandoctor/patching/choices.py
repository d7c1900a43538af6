"""What the verdict's first remedy is as an edit, and what stands in for it where the script has no line for it."""

from collections.abc import Callable
from typing import Any

from nandoctor.causes.remedies.nan_guide import FIRST_BATCH
from nandoctor.causes.remedies.nan_guide_rates import lowered, raised
from nandoctor.causes.remedies.this_run import max_norm, rate
from nandoctor.evidence import Evidence
from nandoctor.patching import numbers
from nandoctor.patching.batches import ROOM
from nandoctor.patching.edits import Wanted

HOT = 0.03  # update against weight: the first steps themselves threw the weights
FEW = 4  # values per channel: statistics of so few are noise, batch after batch
PEAKED = 12.0  # largest value / root mean square: four columns of different units reach 10, a normal sample 5
UNTRAINED, HARDLY_ANY, DECAYED, UPHILL = 0.5, 0.01, 1e-3, 0.9
LOUD, UNNORMALISED = 30.0, 1e3  # a batch against the others; data that were never normalised


def wanted_of(cause: str, e: Evidence) -> list[Wanted]:
    """The first that can be done counts."""
    chosen = CHOICES.get(cause)
    return [_complete(each, e) for each in chosen(e)] if chosen is not None else []


def _complete(wanted: dict[str, Any], e: Evidence) -> Wanted:
    bad = e.bad
    if bad is not None:
        wanted = {"op": bad.op, "file": bad.file, "line": bad.line, "tensor": bad.tensor, **wanted}
    return wanted


def _just(*kinds: str) -> Callable[[Evidence], list[dict[str, Any]]]:
    return lambda e: [{"kind": kind} for kind in kinds]


def _lower(e: Evidence) -> dict[str, Any]:
    lr, new = rate(e), lowered(e)
    return {"kind": "lr", "factor": new / lr if lr and new else 0.1}


def _lr(e: Evidence) -> list[dict[str, Any]]:
    if e.optimizer is not None and not e.optimizer.lr_finite:
        return [{"kind": "steady"}]  # the schedule's own formula is wrong
    return [_lower(e)]


def _clip(e: Evidence) -> list[dict[str, Any]]:
    was = e.gradients.max_norm if e.gradients else None
    limit = max_norm(e)
    return [{"kind": "clip", "max_norm": limit if was is None or was > limit else was / 2}]


def _optimizer(e: Evidence) -> list[dict[str, Any]]:
    return [{"kind": "optimizer", "arguments": numbers.usual(e)}]


def _scaler_calls(e: Evidence) -> list[dict[str, Any]]:
    calls = e.scaler
    if calls is None:
        return []
    if calls.unscaled_twice is not None:
        return [{"kind": "unscale-once"}]
    if calls.stepped_without_update is not None or (calls.steps and not calls.updates):
        return [{"kind": "update"}]
    if calls.seen_steps and calls.stepped_scaled >= 0.9 * calls.seen_steps:
        return [{"kind": "scaler-step"}]
    if calls.steps and (not calls.scaled or (calls.unscaled_backwards or 0) >= 0.9):
        return [{"kind": "scaled-backward"}]
    if e.gradients is not None and e.gradients.clipped_while_scaled:
        return [{"kind": "unscale"}]
    return [{"kind": "scaler-defaults"}]


def _accumulation(e: Evidence) -> list[dict[str, Any]]:
    found = e.accumulation
    if found is None:
        return []
    if found.stale >= 0.3:
        return [{"kind": "zero-grad"}]
    if found.lost >= 0.3:
        return [{"kind": "zero-grad-moved"}]
    return [{"kind": "divide", "by": found.backwards / (found.divisor or 1.0)}] if found.backwards else []


def _dead(e: Evidence) -> list[dict[str, Any]]:
    ratio = e.optimizer.update_ratio_first if e.optimizer else None
    hot = [_lower(e)] if ratio is not None and ratio >= HOT else []
    return [{"kind": "awake", "all": True}, *hot, {"kind": "first-weights"}, {"kind": "revived"}, {"kind": "leaky"}]


def _stalled(e: Evidence) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    trained = e.trained
    if e.dynamics is not None and (e.dynamics.uphill or 0) >= UPHILL:
        found.append({"kind": "downhill"})
    if trained is not None:
        still = max(trained.forgotten or 0.0, 1 - (1.0 if trained.moved is None else trained.moved))
        if still >= UNTRAINED:
            found += [{"kind": "all-parameters"}, {"kind": "thawed"}]
    found += [{"kind": "aligned"}, {"kind": "uncut"}]
    if trained is not None and trained.lr_late is not None and trained.lr_late < DECAYED:
        found.append({"kind": "steady"})
    lr, new = rate(e), raised(e)
    if lr and new:
        found.append({"kind": "lr", "factor": new / lr})
    relu = e.units is not None and e.units.relu
    found += [{"kind": "awake", "all": True}] if relu else []
    return [*found, {"kind": "shuffle"}]


def _vanishing(e: Evidence) -> list[dict[str, Any]]:
    return [{"kind": "shallower"}, {"kind": "unsaturated"}, {"kind": "first-weights"}]


def _tiny_batches(e: Evidence) -> list[dict[str, Any]]:
    always = e.style.batch == 1 or (e.batchnorm is not None and e.batchnorm.usual <= FEW)
    if always:  # then it is no matter of the last batch
        return [{"kind": "batch-size", "to": FIRST_BATCH}, {"kind": "group-norm"}, {"kind": "drop-last"}]
    return [{"kind": "drop-last"}, {"kind": "without-singles"}, {"kind": "group-norm"}]


def _outliers(e: Evidence) -> list[dict[str, Any]]:
    data = e.data
    usual = [g.usual for g in e.layout.inputs if g.floating and g.usual] if e.layout is not None else []
    loud = data is not None and data.loudest_ratio is not None and data.loudest_ratio >= LOUD
    if data is not None and loud and data.loudest_ratio and data.loudest_absmax:
        usual = [data.loudest_absmax / data.loudest_ratio]
    limits = [{"kind": "in-range", "limit": ROOM * min(usual)}] if usual else []
    raw = not loud and data is not None and (data.first_absmax or 0) >= UNNORMALISED
    if raw and _peaked(e):
        return [{"kind": "winsorise"}]  # a few rows are loud, in every batch
    return [{"kind": "standardise"}, *limits] if raw else [*limits, {"kind": "standardise"}]


def _peaked(e: Evidence) -> bool:
    inputs = e.layout.inputs if e.layout is not None else ()
    return any(given.floating and given.peaked is not None and given.peaked >= PEAKED for given in inputs)


def _underflow(e: Evidence) -> list[dict[str, Any]]:
    if e.underflow is not None and e.underflow.half_weights:
        return [{"kind": "full-weights"}]
    if e.precision.scaler:
        return [{"kind": "scaler-defaults"}, {"kind": "grad-scaler"}]
    return [{"kind": "loss-scale"}, {"kind": "grad-scaler"}]


def _oscillation(e: Evidence) -> list[dict[str, Any]]:
    return [{"kind": "shuffle"}, _lower(e)]


CHOICES: dict[str, Callable[[Evidence], list[dict[str, Any]]]] = {
    "amp-misuse": _scaler_calls,
    "bad-initialization": _just("first-weights"),
    "bad-input-data": _just("nan-to-num"),
    "bad-labels": _just("labels"),
    "batchnorm-tiny-batch": _tiny_batches,
    "corrupt-weights": _just("sound-writes"),
    "data-outlier": _outliers,
    "dead-relu": _dead,
    "exploding-gradients": _clip,
    "fp16-overflow": _just("float32"),
    "fp16-underflow": _underflow,
    "gradient-accumulation-bug": _accumulation,
    "loss-oscillation": _oscillation,
    "loss-plateau": _stalled,
    "lr-too-high": _lr,
    "masked-softmax": _just("mask"),
    "optimizer-epsilon": _optimizer,
    "unsafe-op": _just("operation"),
    "vanishing-gradients": _vanishing,
}
