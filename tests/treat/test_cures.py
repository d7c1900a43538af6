"""Sick programs that die, or learn nothing, without treatment, and train like their healthy twins with it."""

import math

import pytest

from nandoctor.notebook import diagnose
from tests.treat import programs
from tests.treat.runs import treated

# name -> cause, treatment that must have helped or acted, times the twin's loss that counts as recovered
CURED = {
    "nan_in_a_file": ("bad-input-data", "data", 1.1),
    "loud_samples": ("data-outlier", "data", 1.1),
    "hot_sgd": ("lr-too-high", "learning-rate", 1.8),  # 120 steps are few to find one, and no hint moves it
    "root_of_zero": ("unsafe-op", "operations", 1.1),
    "empty_row": ("masked-softmax", "attention-logits", 1.1),
    "squares_in_half": ("fp16-overflow", "amp-order", 1.1),
    "one_left_over": ("batchnorm-tiny-batch", "batchnorm", 1.3),  # it learns from one sample more of each epoch
    "no_epsilon": ("optimizer-epsilon", "optimizer", 1.1),
    "never_cleared": ("gradient-accumulation-bug", "accumulation", 1.6),  # nine of its 120 steps are lost
    "unscaled_twice": ("amp-misuse", "amp-order", 1.1),
    "clipped_while_scaled": ("amp-misuse", "amp-order", 1.1),
    "underflow": ("fp16-underflow", "amp-order", 1.2),
    "loud_head": ("bad-initialization", "initialization", 1.1),
    "nan_weights_written": ("corrupt-weights", "nonfinite-weights", 1.1),
    "one_huge_gradient": ("exploding-gradients", "adaptive-clipping", 1.2),
}


@pytest.mark.parametrize("name", CURED)
def test_a_sick_program_trains_like_its_twin(name, tmp_path):
    cause, treatment, room = CURED[name]
    twin = programs.run(name, False)
    assert not recovered(lambda: programs.run(name, True), room * twin), "it is not sick"

    run = treated(tmp_path, name)

    assert run.exit_code == 0
    assert run.loss <= room * twin
    acted = [a for a in run.actions if a.event in ("applied", "once") and a.treatment == treatment]
    assert acted and acted[0].cause == cause
    diagnosis = diagnose(run.trace)
    assert diagnosis.verdict == cause
    assert not run.events("aside")


def recovered(plain, limit):
    try:
        return plain() <= limit
    except (ValueError, RuntimeError):  # torch's own words for BatchNorm and GradScaler
        return False


def test_every_action_is_one_line_with_step_cause_what_why_and_undo(tmp_path):
    run = treated(tmp_path, "never_cleared")

    assert len(run.said) == len(run.actions) == 2
    line = run.said[0]
    assert line.startswith("nandoctor: step 8: gradient-accumulation-bug: gradients are cleared")
    assert "; why: " in line and "; undo: " in line


def test_weights_stay_finite_when_a_closure_makes_the_gradients(tmp_path):
    assert math.isnan(programs.run("newton", True))

    run = treated(tmp_path, "newton")

    assert run.exit_code == 0 and run.loss < 2 * programs.run("newton", False)
