"""Small patients, described by what is wrong with them: a healthy run, and one for each cause."""

import math
from dataclasses import replace

from nandoctor.evidence import (
    Activations,
    Bad,
    BatchNorm,
    Crash,
    Data,
    Evidence,
    Flip,
    Gradients,
    Incidents,
    Loss,
    Onset,
    Operand,
    Optimizer,
    Precision,
    Style,
    Weights,
)  # fmt: skip
from tests.causes.silent_patients import silent_patients

HEALTHY = Evidence(
    steps=100,
    incidents=Incidents(first=None, evaluation=None, by_design=0, count=0),
    onset=Onset(step=99, failed=99, window=(79, 99)),
    precision=Precision(False, False, None, False, None, None, 0, 0, None, None, None),
    style=Style(accelerate=False, scaler=False, clips=False, schedule=False, attention=False),
    loss=Loss(100, 2.3, 0.4, 0.38, 2.1, 0.38, 1.1, 2.4, 0.45, 1.0, 1.0, 0.5, False, 2.3, "ln 10 for 10 classes",
              ((98, 0.4), (99, 0.4))),
    gradients=Gradients(1.0, 1.0, 1.1, 1.1, 2.0, 0.9, 1.0, 0.5, 0.0, None, 0, 1.0, 1.0, None, None, None),
    optimizer=Optimizer("SGD", False, {"lr": 0.05, "momentum": 0.0}, 1, 0.05, 0.05, 0.05, True, None, 0.002, 0.003,
                        0.002, 0.01, "fc1.weight", 0.003, 0.02),
    weights=Weights("fc1.weight", 0.58, 0.05, 0.1, None, 1.2, None, (), ()),
    activations=Activations(1.0, 1.1, "fc1", 1.1, 1.0, 4, 6.0, "fc1", 1.0),
    data=Data("0", 1.05, 3.1, 99, 0, 3.0, "0", 0, 100, None, 0.0, 9.0, None, None, None),
)  # fmt: skip


def born(step: int = 40, phase: str = "forward", **more: object) -> Incidents:
    bad = replace(Bad(step, phase, kind="nan", dtype="float32", layer="head", module="Linear", file="train.py",
                      line=12, text="y = head(x)"), **more)  # type: ignore[arg-type]  # fmt: skip
    return Incidents(first=bad, evaluation=None, by_design=0, count=1)


def operand(role: str, low: float, high: float, dtype: str = "float32", **more: int) -> Operand:
    return replace(Operand(role, dtype, low, high, 0, 0, 0, 320, 32), **more)  # type: ignore[arg-type]


def sudden(step: int = 40) -> Onset:
    return Onset(step, step, (step - 20, step))


assert HEALTHY.loss and HEALTHY.optimizer and HEALTHY.gradients and HEALTHY.weights and HEALTHY.data
assert HEALTHY.activations
SICK = replace(HEALTHY, onset=sudden(), loss=replace(HEALTHY.loss, end=math.nan, peak=math.inf))
assert SICK.loss

PATIENTS: dict[str, Evidence] = {
    "lr-too-high": replace(
        SICK, incidents=born(op="linear", kind="inf", operands=(operand("self", -1e25, 1e25),)),
        onset=Onset(30, 40, (10, 30)),
        loss=replace(SICK.loss, growth=3.0, rising=1.0, before_failure=((38, 900.0), (39, 1e9), (40, math.nan))),
        optimizer=replace(HEALTHY.optimizer, lr=1.5, lr_first=1.5, lr_peak=1.5, update_ratio=0.2,
                          update_ratio_first=0.3, update_ratio_onset=5.0, hottest_ratio=0.3, promised=4.0),
        gradients=replace(HEALTHY.gradients, at_onset=1e6, spike=1e6, growth=3.0, backward_gain_at_onset=400.0),
    ),
    "exploding-gradients": replace(
        SICK, incidents=born(step=41, op="linear", kind="inf", operands=(operand("self", -1e25, 1e25),)),
        onset=Onset(40, 41, (20, 40)),
        optimizer=replace(HEALTHY.optimizer, update_ratio_onset=1e4),
        gradients=replace(HEALTHY.gradients, at_onset=1e7, spike=1e7, backward_gain_at_onset=900.0,
                          length_at_onset=230.0, usual_length=7.0),
    ),
    "fp16-overflow": replace(
        SICK, incidents=born(op="matmul", kind="inf", dtype="float16",
                             operands=(operand("self", -700, 700, "float16"), operand("other", -650, 600, "float16"))),
        precision=replace(HEALTHY.precision, float16=True, autocast="float16", headroom_bits=0.4, headroom_slope=-0.3,
                          loudest_layer="attn"),
    ),
    "bad-input-data": replace(
        SICK, incidents=born(phase="input", layer=None, module=None, tensor="0", row=17, index=3, batch=12),
        data=replace(HEALTHY.data, bad_batches=1),
    ),
    "bad-labels": replace(HEALTHY, crash=Crash("IndexError", "Target 7 is out of bounds.", "train.py", 9, None, None)),
    "amp-misuse": replace(HEALTHY, crash=Crash(
        "RuntimeError", "unscale_() has already been called on this optimizer since the last update().", "train.py",
        9, None, None)),
    "batchnorm-tiny-batch": replace(HEALTHY, batchnorm=BatchNorm(16, 0, "bn", 32, 32), crash=Crash(
        "ValueError", "Expected more than 1 value per channel when training",
        "train.py", 9, None, None)),
    "masked-softmax": replace(SICK, incidents=born(op="softmax", masked_rows=3,
                                                   operands=(operand("self", -4, 4, inf=30),))),
    "unsafe-op": replace(SICK, incidents=born(phase="loss", layer=None, module=None, op="log", kind="inf",
                                              operands=(operand("self", 0.0, 1.0, zeros=4),))),
    "bad-initialization": replace(
        SICK, incidents=born(step=1, op="conv2d", kind="inf"), onset=Onset(1, 1, (0, 1)),
        loss=replace(SICK.loss, first=4e9), weights=replace(HEALTHY.weights, worst_gain=80.0, worst_std=10.0),
        activations=replace(HEALTHY.activations, amplification=4e9, first_rms=4e9),
        optimizer=replace(HEALTHY.optimizer, update_ratio=None, update_ratio_first=0.5, hottest_ratio=None),
    ),
    "corrupt-weights": replace(SICK, incidents=born(phase="weights", op=None, tensor="head.weight",
                                                    writer="load_state_dict")),
    "data-outlier": replace(
        SICK, incidents=born(op="linear", kind="inf", operands=(operand("self", -1e25, 1e25),)),
        data=replace(HEALTHY.data, loudest_ratio=8e4, loudest_absmax=2.5e5, loudest_step=40),
        gradients=replace(HEALTHY.gradients, at_onset=1e6, spike=1e6),
    ),
    "hardware-fault": replace(HEALTHY, flip=Flip(30, "head.weight", 0.1, 3.4e37, 128)),
    **{name: patient for name, patient in silent_patients(HEALTHY).items() if name != "healthy"},
}  # fmt: skip
