"""What the verdict's first remedy is as an edit, and what stands in for it where the script has no line for it."""

from collections.abc import Callable
from typing import Any

from nandoctor.evidence import Evidence
from nandoctor.patching import numbers
from nandoctor.patching.batches import ROOM
from nandoctor.patching.edits import Wanted

HOT = 0.03  # update against weight: the first steps themselves threw the weights
FEW = 4  # values per channel: statistics of so few are noise, batch after batch
STANDS, CRUMBS = 0.02, 3e-4  # all updates together; one of them: healthy runs are at 0.0005 to 0.0041
AIM = 2e-3  # update against weight of a run that learns
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
    ratio = e.optimizer.update_ratio_first if e.optimizer else None
    return {"kind": "lr", "factor": min(0.1, 0.01 / ratio) if ratio else 0.1}


def _lr(e: Evidence) -> list[dict[str, Any]]:
    return [_lower(e)]


def _clip(e: Evidence) -> list[dict[str, Any]]:
    return [{"kind": "clip", "max_norm": 1.0}]


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
    return [{"kind": "awake", "all": True}, *hot, {"kind": "first-weights"}, {"kind": "leaky"}]


def _stalled(e: Evidence) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    trained, optimizer = e.trained, e.optimizer
    if e.dynamics is not None and (e.dynamics.uphill or 0) >= UPHILL:
        found.append({"kind": "downhill"})
    if trained is not None:
        still = max(trained.forgotten or 0.0, 1 - (1.0 if trained.moved is None else trained.moved))
        if still >= UNTRAINED:
            found += [{"kind": "all-parameters"}, {"kind": "thawed"}]
    found += [{"kind": "aligned"}, {"kind": "uncut"}]
    if trained is not None and trained.lr_late is not None and trained.lr_late < DECAYED:
        found.append({"kind": "steady"})
    ratio = optimizer.update_ratio if optimizer else None
    stands = trained is not None and trained.travelled is not None and trained.travelled < STANDS
    if ratio is not None and ratio > 0 and (stands or ratio < CRUMBS):
        found.append({"kind": "lr", "factor": _rounded(min(1000.0, max(2.0, AIM / ratio)))})
    return [*found, {"kind": "awake"}]


def _rounded(value: float) -> float:
    return float(f"{value:.2g}")


def _vanishing(e: Evidence) -> list[dict[str, Any]]:
    return [{"kind": "shallower"}, {"kind": "unsaturated"}, {"kind": "first-weights"}]


def _tiny_batches(e: Evidence) -> list[dict[str, Any]]:
    always = e.style.batch == 1 or (e.batchnorm is not None and e.batchnorm.usual <= FEW)
    if always:  # then it is no matter of the last batch
        return [{"kind": "group-norm"}, {"kind": "drop-last"}]
    return [{"kind": "drop-last"}, {"kind": "without-singles"}, {"kind": "group-norm"}]


def _outliers(e: Evidence) -> list[dict[str, Any]]:
    data = e.data
    usual = [g.usual for g in e.layout.inputs if g.floating and g.usual] if e.layout is not None else []
    loud = data is not None and data.loudest_ratio is not None and data.loudest_ratio >= LOUD
    if data is not None and loud and data.loudest_ratio and data.loudest_absmax:
        usual = [data.loudest_absmax / data.loudest_ratio]
    limits = [{"kind": "in-range", "limit": ROOM * min(usual)}] if usual else []
    raw = not loud and data is not None and (data.first_absmax or 0) >= UNNORMALISED
    return [{"kind": "standardise"}, *limits] if raw else [*limits, {"kind": "standardise"}]


def _underflow(e: Evidence) -> list[dict[str, Any]]:
    if e.underflow is not None and e.underflow.half_weights:
        return [{"kind": "full-weights"}]
    if e.precision.scaler:
        return [{"kind": "scaler-defaults"}, {"kind": "grad-scaler"}]
    return [{"kind": "loss-scale"}, {"kind": "grad-scaler"}]


def _oscillation(e: Evidence) -> list[dict[str, Any]]:
    return [{"kind": "shuffle"}, {"kind": "lr", "factor": 0.1}]


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
