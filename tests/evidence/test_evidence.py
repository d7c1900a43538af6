"""Facts read from traces drawn as text."""

import math

import numpy as np
import pytest

from nandoctor.evidence import gather
from nandoctor.evidence.onset import gather as onset_of
from nandoctor.evidence.series import EMPTY, Series, growth_per_step, per_step
from tests.builders import Run, run, trace

INCIDENT = {"note": "incident", "alarm": "loss", "step": 3, "batch": 3, "micro": 0, "epoch": 0, "mode": "train",
            "phase": "loss", "op": "log", "place": {"file": "train.py", "line": 7, "text": "loss = x.log()"},
            "operands": [{"role": "self", "dtype": "float32", "shape": [4], "low": 0.0, "high": 1.0, "zeros": 1},
                         {"role": "result", "dtype": "float32", "shape": [4], "low": "nan", "high": 0, "inf": 1}],
            "kind": "nan"}  # fmt: skip


def losses(text: str) -> Series:
    values = np.array([float(word) for word in text.split()])
    return Series(np.arange(len(values)), values)


def test_onset_is_where_the_loss_leaves_its_path_and_not_where_it_ends():
    onset = onset_of(losses("2 2 2 2 9 40 900 inf nan"), EMPTY, 7, 8)
    assert (onset.step, onset.failed, onset.run_up) == (4, 7, 3)


def test_a_spike_that_came_back_is_no_onset():
    assert onset_of(losses("2 2 90 2 2 2 2 2 nan"), EMPTY, 8, 8).step == 8


def test_onset_of_a_long_run_looks_back_twenty_steps_only():
    falling = " ".join(str(100 / (1 + step)) for step in range(60))
    onset = onset_of(losses(falling + " 10 50 inf"), EMPTY, 62, 62)
    assert onset.step == 60


def test_growth_is_a_factor_a_step():
    assert growth_per_step(losses("1 2 4 8 16")) == pytest.approx(2)


def test_rows_of_one_step_are_put_together():
    joined = per_step(np.array([0, 0, 1]), np.array([3.0, 4.0, 2.0]), "norm")
    assert joined.values.tolist() == [5.0, 2.0]


def test_an_incident_is_the_first_bad_value_and_its_kind_is_that_of_the_result():
    bad = gather(trace(loss="2 2 2 nan", notes=[INCIDENT])).bad
    assert bad is not None and (bad.step, bad.phase, bad.op, bad.line) == (3, "loss", "log", 7)
    assert bad.kind == "inf"  # it turned NaN on its way to the alarm


def test_an_overflow_that_a_scaler_skips_does_not_count():
    skipped = {**INCIDENT, "step": 1, "phase": "backward", "alarm": "gradient", "skipped": True}
    evidence = gather(trace(loss="2 2 2 2 2 2", done="1 0 1 1 1 1", loss_scale="64 32 32 32 32 32", notes=[skipped]))
    assert evidence.bad is None and evidence.incidents.by_design == 1


def test_a_scaler_that_skips_for_ever_hides_a_fault():
    skipped = {**INCIDENT, "step": 2, "phase": "forward", "dtype": "float16", "skipped": True}
    evidence = gather(trace(loss="2 2 nan", steps=8, done="1 1 0", loss_scale="64 64 32", notes=[skipped]))
    assert evidence.bad is not None and evidence.bad.step == 2


def test_a_nan_in_a_batch_counts_though_a_scaler_skips_the_step():
    skipped = {**INCIDENT, "step": 1, "phase": "input", "op": None, "skipped": True}
    assert gather(trace(loss="2 nan 2 2", done="1 0 1 1", notes=[skipped])).bad is not None


def test_a_nan_in_evaluation_alone_is_told_as_such():
    evidence = gather(trace(loss="2 2 2 2 2", notes=[{**INCIDENT, "alarm": "evaluation", "mode": "eval"}]))
    assert evidence.incidents.first is None
    assert evidence.bad is not None and evidence.bad.mode == "eval"


def test_without_an_incident_note_the_rows_name_the_layer():
    bad = gather(trace(loss="2 2 nan", activations={"fc1": "1 1 1", "fc2": "1 1 nan"})).bad
    assert bad is not None and (bad.step, bad.phase, bad.layer) == (2, "forward", "fc2")


def test_updates_are_held_against_the_weights_they_met():
    optimizer = gather(trace(loss="2 2 2 2 9 90 inf", weights={"w": 1.0}, updates={"w": 0.2})).optimizer
    assert optimizer is not None and optimizer.update_ratio == pytest.approx(0.2)
    assert optimizer.hottest_layer == "w"


def test_the_norm_before_clipping_is_read_where_the_run_clips():
    gradients = gather(trace(loss=2.0, steps=8, gradient_norm=50.0, clip=1.0)).gradients
    assert gradients is not None and gradients.pre_median == pytest.approx(50)
    assert gradients.clipped_share == 1 and gradients.max_norm == 1


def test_a_loud_batch_stands_out_against_the_others():
    data = gather(trace(loss="2 2 2 2 2 2 90 nan", batch="1 1 1 1 1 1 500 1")).data
    assert data is not None and data.loudest_ratio == pytest.approx(500) and data.loudest_step == 6


def test_headroom_counts_doublings_to_65504():
    precision = gather(trace(loss="2 2 2 nan", activations={"a": "1024 4096 16384 1"}, dtype="float16")).precision
    assert precision.headroom_bits == pytest.approx(2, abs=0.01) and precision.headroom_slope == pytest.approx(-2)


def test_initial_weights_are_measured_by_the_fan_in_rule():
    made = Run()
    made.tensor("weight", "fc.weight", 50.0, (16, 64), role="parameter")
    made.row("loss", "loss", "loss", value=2.0)
    made.row("step", "step", "call", value=1.0)
    weights = gather(made.trace()).weights
    assert weights is not None and weights.worst_gain == pytest.approx(50 / math.sqrt(3) * 8, rel=0.01)


def test_an_embedding_is_not_held_to_the_fan_in_rule():
    made = Run()
    made.note("model", name="model", tree=[["emb", "Embedding", True]], parameters=[])
    made.tensor("weight", "emb.weight", 2.0, (100, 64), role="parameter")
    weights = gather(made.trace()).weights
    assert weights is not None and weights.worst_gain is None


def test_an_embedding_far_from_the_unit_normal_is_told():
    made = Run()
    made.note("model", name="model", tree=[["emb", "Embedding", True]], parameters=[])
    made.tensor("weight", "emb.weight", 500.0, (100, 64), role="parameter")
    weights = gather(made.trace()).weights
    assert weights is not None and weights.worst_layer == "emb.weight"


def test_unscale_twice_before_update_is_seen():
    made = run(loss="2 2 2")
    for call in ("scale", "unscale_", "unscale_", "step", "update"):
        made.row("scaler", call, "scaler", value=1.0)
    scaler = gather(made.trace()).scaler
    assert scaler is not None and scaler.unscaled_twice == 3


def test_the_right_order_of_scaler_calls_is_no_misuse():
    made = run(loss="2 2 2")
    for call in ("scale", "unscale_", "step", "update") * 3:
        made.row("scaler", call, "scaler", value=1.0)
    scaler = gather(made.trace()).scaler
    assert scaler is not None and scaler.unscaled_twice is None and scaler.stepped_without_update is None


def normalised(left: float) -> Run:
    """Three layers, the middle one BatchNorm over two rows, which passes `left` of its gradient on."""
    made = Run()
    for _ in range(3):
        made.row("batchnorm_count", "bn", module="BatchNorm1d", value=2.0)
        made.row("loss", "loss", "loss", value=2.0)
        for name, module, size in (("head", "Linear", 1.0), ("bn", "BatchNorm1d", 0.5), ("fc", "Linear", 0.5 * left)):
            made.tensor("output_gradient", name, size, (2, 8), module=module)
        made.row("step", "step", "call", value=1.0)
    return made


def test_what_batchnorm_leaves_of_the_gradient_is_read_behind_it():
    norm = gather(normalised(1e-6).trace()).batchnorm
    assert norm is not None and (norm.most, norm.collapse_layer) == (2, "bn")
    assert norm.collapse == pytest.approx(1e-6)


def test_a_gradient_that_dies_elsewhere_is_not_put_down_to_batchnorm():
    made = normalised(1.0)
    made.tensor("output_gradient", "far", 1e-9, (2, 8), module="Linear")
    norm = gather(made.trace()).batchnorm
    assert norm is not None and norm.collapse == pytest.approx(1.0)


def test_start_and_second_half_of_the_loss_are_read_apart():
    loss = gather(trace(loss=" ".join(["9"] * 20 + ["4"] * 19 + ["1"]), gradient_norm=3.0)).loss
    assert loss is not None and (loss.early, loss.late_low) == (9, 1) and loss.late_high == pytest.approx(4)


def test_the_last_gradient_norm_is_a_median():
    gradients = gather(trace(loss=2.0, gradient_norm="8 8 8 8 8 8 8 8 8 8 1 1 1 1 1 1 1 1 1 90")).gradients
    assert gradients is not None and gradients.end == 1
