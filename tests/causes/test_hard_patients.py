"""Patients that were judged wrongly once: each is a rule that follows from numerics."""

import math
from dataclasses import replace

import pytest

from nandoctor.causes import CAUSES
from nandoctor.causes.cause import Verdict
from nandoctor.causes.failure import diverged, failed
from nandoctor.causes.step_size import first_gradient
from nandoctor.evidence import BatchNorm, Evidence, Onset
from tests.causes.patients import HEALTHY, PATIENTS, SICK, born, operand

assert HEALTHY.loss and HEALTHY.optimizer and HEALTHY.gradients and HEALTHY.weights and HEALTHY.activations
BY_ID = {cause.id: cause for cause in CAUSES}


def ranking(patient: Evidence) -> dict[str, float]:
    """Confidence by cause, the surest first."""
    answers = [(cause.id, cause.judge(patient)) for cause in CAUSES]
    found = [(name, answer.confidence) for name, answer in answers if isinstance(answer, Verdict)]
    return dict(sorted(found, key=lambda pair: -pair[1]))


def said(name: str, patient: Evidence) -> str:
    answer = BY_ID[name].judge(patient)
    assert isinstance(answer, Verdict)
    return " ".join([answer.summary, *(fact.fact for fact in answer.evidence), *answer.against])


MILLIONS = replace(  # targets in millions, fitted: weights, loss and gradient begin absurd and end at the bottom
    HEALTHY,
    loss=replace(HEALTHY.loss, first=1.5e13, end=3e3, best=1.5e3, peak=1.5e13, expected=None),
    gradients=replace(HEALTHY.gradients, first=7.7e6, peak=8.5e6, end=2e2),
    weights=replace(HEALTHY.weights, growth=6e6),
    optimizer=replace(HEALTHY.optimizer, update_ratio_first=6e5),
)  # fmt: skip


def test_large_units_that_were_learned_are_healthy():
    assert not failed(MILLIONS) and ranking(MILLIONS) == {}


def test_the_same_weights_without_learning_are_a_failure():
    assert MILLIONS.loss is not None
    assert diverged(replace(MILLIONS, loss=replace(MILLIONS.loss, end=1.4e13)))


def test_a_first_gradient_is_measured_by_its_loss():
    assert first_gradient(MILLIONS) == pytest.approx(2, rel=0.05)


def diverging(steps: int, **loss: float) -> Evidence:
    assert HEALTHY.optimizer and HEALTHY.loss
    return replace(
        HEALTHY,
        steps=steps,
        onset=Onset(1, steps - 1, (0, 1)),
        optimizer=replace(HEALTHY.optimizer, lr=2.0, update_ratio=0.2, update_ratio_first=0.2, update_ratio_onset=0.2),
        loss=replace(HEALTHY.loss, steps=steps, first=1.0, **loss),
    )


def test_four_batches_are_no_divergence():
    assert not diverged(diverging(4, end=6.0, peak=6.0, late_low=5.0, late_high=6.0))


def test_batches_of_different_loss_are_no_divergence():
    assert not diverged(diverging(40, end=5.0, peak=30.0, late_low=0.1, late_high=20.0))


def test_a_loss_that_stays_far_above_its_start_is_a_divergence():
    patient = diverging(40, end=9.0, peak=12.0, late_low=7.0, late_high=11.0)
    assert diverged(patient) and "went from 1 to 9 and did not come back" in said("lr-too-high", patient)


def test_a_loss_that_came_back_half_is_not_said_to_have_stayed():
    patient = diverging(40, end=0.97, peak=90.0, late_low=0.9, late_high=1.1)
    assert diverged(patient) and "rose from 1 to 90, and ended at 0.97" in said("lr-too-high", patient)


HALF = replace(  # x ** 3 in half of numbers up to 103, at the first step
    SICK, onset=Onset(0, 0, (0, 0)), loss=replace(SICK.loss, first=math.nan, expected=None), gradients=None,
    incidents=born(0, op="pow", kind="inf", dtype="float16", operands=(operand("self", 0, 103, "float16", zeros=9),)),
    activations=replace(HEALTHY.activations, amplification=math.inf, first_rms=math.inf),
)  # fmt: skip


def test_an_overflow_of_half_at_the_first_step_does_not_accuse_the_weights():
    found = ranking(HALF)
    assert next(iter(found)) == "fp16-overflow" and found.get("bad-initialization", 0) < 0.5
    assert "unsafe-op" not in found


def test_exp_of_what_float32_cannot_hold_either_is_no_matter_of_half():
    incidents = born(0, op="exp", kind="inf", dtype="float16", operands=(operand("self", 0, 103, "float16"),))
    assert "unsafe-op" in ranking(replace(HALF, incidents=incidents))


def test_a_ctc_target_longer_than_its_input_is_an_unsafe_op():
    patient = replace(SICK, incidents=born(phase="loss", op="ctc_loss", kind="inf", layer=None, module=None,
                                           operands=(operand("self", -3.9, -0.1),)))  # fmt: skip
    assert next(iter(ranking(patient))) == "unsafe-op"
    assert "zero_infinity=True" in (BY_ID["unsafe-op"].remedies(patient)[0].code or "")


PAIRS = replace(
    HEALTHY,
    batchnorm=BatchNorm(2, 0, "bn", 2, 2, collapse=1e-8, collapse_layer="bn"),
    loss=replace(HEALTHY.loss, steps=288, first=0.56, early=0.65, end=0.7, best=0.001),
)


def test_batches_of_two_that_stop_every_gradient_are_told_though_nothing_is_nan():
    assert next(iter(ranking(PAIRS).items())) == ("batchnorm-tiny-batch", 0.8)


@pytest.mark.parametrize(
    "better",
    [
        replace(PAIRS, loss=replace(HEALTHY.loss, steps=288, early=0.65, end=0.3)),
        replace(PAIRS, batchnorm=BatchNorm(2, 0, "bn", 2, 2, collapse=0.3, collapse_layer="bn")),
        replace(PAIRS, batchnorm=BatchNorm(2, 287, "bn", 32, 32, collapse=1e-8, collapse_layer="bn")),
        replace(PAIRS, loss=replace(HEALTHY.loss, steps=12, early=0.65, end=0.7)),
    ],
    ids=["it learns", "gradients pass", "only the last batch is small", "too few steps"],
)
def test_small_batches_alone_are_no_fault(better: Evidence):
    assert ranking(better) == {}


def backward(low: float, high: float) -> Evidence:
    incidents = born(12, "backward", alarm="gradient", operands=(operand("gradient", low, high),))
    gradients = replace(HEALTHY.gradients, at_onset=20.0, spike=2.4)
    optimizer = replace(HEALTHY.optimizer, update_ratio=0.007, hottest_ratio=0.012)
    return replace(SICK, onset=Onset(12, 12, (0, 12)), incidents=incidents, gradients=gradients, optimizer=optimizer)


def test_a_nan_that_backward_made_of_ordinary_gradients_is_no_explosion():
    assert "exploding-gradients" not in ranking(backward(-9.0, 19.9))


def test_a_gradient_that_had_reached_the_end_of_its_type_is_one():
    assert next(iter(ranking(backward(-1e30, 1e33)))) == "exploding-gradients"


def test_a_nan_of_unknown_gradients_is_not_said_to_explode_without_growth():
    incidents = born(12, "backward", alarm="gradient", op="linear")
    assert "exploding-gradients" not in ranking(replace(backward(0, 1), incidents=incidents))


def test_the_users_own_arithmetic_outside_the_graph_is_an_unsafe_op():
    rewards = replace(operand("self", 1.2, 1.2), count=8, rows=1)
    single = born(22, "loss", op="std", layer=None, module=None, method="expression", operands=(rewards,))
    divided = born(17, "loss", op="div", kind="inf", layer=None, module=None, method="expression",
                   operands=(operand("self", 24, 24), operand("other", 0, 14, zeros=1)))  # fmt: skip
    for incidents in (single, divided):
        patient = replace(SICK, incidents=incidents)
        assert next(iter(ranking(patient))) == "unsafe-op" and "batchnorm-tiny-batch" not in ranking(patient)


def test_the_std_of_one_row_of_activations_stays_a_normalisation():
    row = replace(operand("self", -1, 1), count=8, rows=1)
    patient = replace(SICK, incidents=born(22, op="std", operands=(row,)))
    assert next(iter(ranking(patient))) == "batchnorm-tiny-batch"


def jumped() -> Evidence:
    return replace(
        PATIENTS["exploding-gradients"],
        loss=replace(SICK.loss, jump_at_onset=2e12),
        gradients=replace(HEALTHY.gradients, at_onset=7.6e12, spike=4.4e12),
        activations=replace(HEALTHY.activations, loudness_at_onset=1.1),
    )


def test_a_target_that_the_trace_does_not_hold_is_only_a_candidate():
    found = ranking(jumped())
    assert next(iter(found)) == "exploding-gradients" and 0 < found["data-outlier"] < 0.5
    assert "which this trace does not hold" in said("data-outlier", jumped())
