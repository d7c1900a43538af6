"""Every remedy that some cause offers to some patient: sick ones of each cause, in many styles and at many rates."""

from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

from nandoctor.causes import CAUSES, healthy, unknown
from nandoctor.causes.cause import Remedy
from nandoctor.evidence import (
    Accumulation,
    Depth,
    Dynamics,
    Evidence,
    Gradients,
    Layout,
    Optimizer,
    Precision,
    Trained,
    Underflow,
)
from nandoctor.evidence.crash import Crash
from nandoctor.evidence.exchanged import Crossed
from tests.causes.patients import HEALTHY, PATIENTS, born

LADDERS = {**{cause.id: cause.remedies for cause in CAUSES}, "healthy": healthy.remedies, "unknown": unknown.remedies}
RATES = (5e-6, 5e-5, 1e-4, 1e-3, 0.5)
EPOCHS = (None, 0, 14)
assert HEALTHY.optimizer and HEALTHY.gradients
OPTIMIZER: Optimizer = HEALTHY.optimizer
GRADIENTS: Gradients = HEALTHY.gradients
PRECISION: Precision = HEALTHY.precision

STYLES = {
    "plain": {},
    "accelerate": {"accelerate": True},
    "lightning": {"lightning": True},
    "hf_trainer": {"hf_trainer": True, "accelerate": True},
    "scaler": {"scaler": True},
    "unscales": {"scaler": True, "unscales": True},
    "net": {"model": "net", "torch": "2.9.0+cpu"},
    "several": {"groups": 3, "schedule": True, "world": 4, "cuda": "12.4", "clips": True},
    "known length": {
        "epochs": 3,
        "epoch_steps": 50,
        "total": 150,
        "batch": 32,
        "warm_up": 4,
        "saves": 2,
        "guarded": True,
    },
}


def with_lr(lr: float, epoch: int | None = 0, name: str = "SGD", patient: Evidence = HEALTHY) -> Evidence:
    adaptive = name != "SGD"
    settings = {"lr": lr, "eps": 1e-4, "beta1": 0.9, "beta2": 0.9} if adaptive else {"lr": lr, "momentum": 0.99}
    optimizer = replace(OPTIMIZER, name=name, adaptive=adaptive, settings=settings, lr=lr, lr_first=lr, lr_peak=lr)
    return replace(patient, optimizer=optimizer, incidents=born(epoch=epoch))


def seen(what: type, **told: Any) -> Any:
    """Evidence of which only this is known."""
    return what(**{field.name: told.get(field.name) for field in fields(what)})


def patients() -> Iterator[Evidence]:
    half = replace(PRECISION, float16=True, autocast="float16")
    micro = seen(Accumulation, optimizers=1, backwards=4.0, stale=0.0, longest_stale=0, cleared=True, lost=0.0)
    for style in STYLES.values():
        for patient in (HEALTHY, *PATIENTS.values()):
            yield replace(patient, style=replace(patient.style, **style))
        for lr in RATES:
            for epoch in EPOCHS:
                patient = with_lr(lr, epoch, "SGD" if lr > 1e-3 else "AdamW")
                yield replace(patient, style=replace(patient.style, **style), precision=half, accumulation=micro)
        calm = replace(HEALTHY, optimizer=replace(OPTIMIZER, lr=1e-4), data=None)
        yield replace(calm, style=replace(calm.style, **style))
    long = replace(GRADIENTS, length_at_onset=200.0, usual_length=9.0, pre_median=40.0, max_norm=1.0)
    yield replace(HEALTHY, gradients=long, precision=replace(half, scaler=True, scale_last=16.0))
    for kind in ("float16", "bfloat16"):
        yield replace(with_lr(1e-4, name="AdamW"), underflow=seen(Underflow, half_weights=True, dtype=kind))
    untrained = seen(Trained, moved=0.01, forgotten=0.99, left_out=("fc1.weight",), lr_late=1e-6)
    yield replace(HEALTHY, trained=untrained, dynamics=seen(Dynamics, uphill=1.0))
    yield replace(HEALTHY, optimizer=replace(OPTIMIZER, lr=float("nan"), lr_finite=False))
    yield replace(HEALTHY, depth=seen(Depth, saturating=3, smallest_layer="fc1.weight", matrices=4, half=False))
    yield replace(HEALTHY, layout=seen(Layout, parameters={"rnn.weight_hh_l8": (64, 16)}))
    yield replace(HEALTHY, crossed=Crossed("MseLoss", 32, 0))
    refused = "value cannot be converted to type c10::Half without overflow"
    yield replace(HEALTHY, crash=Crash("RuntimeError", refused, "train.py", 9, None, None))
    yield Evidence(0, HEALTHY.incidents, HEALTHY.onset, HEALTHY.precision, HEALTHY.style)


def offered() -> Iterator[tuple[str, Remedy]]:
    """(cause, remedy), each once."""
    seen = set()
    for patient in patients():
        for name, ladder in LADDERS.items():
            for remedy in ladder(patient):
                if (name, remedy) not in seen:
                    seen.add((name, remedy))
                    yield name, remedy
