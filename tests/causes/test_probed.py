"""What `record --probe` measured decides between lr-too-high and its neighbours."""

from dataclasses import replace

import pytest

from nandoctor.causes.step_size import PROBED, probed_clues, steps_were_sound
from nandoctor.evidence import Evidence, Onset, Overshoot, gather
from tests.builders import run
from tests.causes.patients import HEALTHY, PATIENTS
from tests.causes.test_hard_patients import ranking


def probed(patient: Evidence, rho: float | None, factor: float | None) -> Evidence:
    return replace(patient, overshoot=Overshoot(rho, rho, factor, 12))


@pytest.mark.parametrize(
    ("rho", "factor", "weight"),
    [
        (-0.4, 1.0, PROBED), (0.55, 2.2, PROBED), (0.3, None, PROBED), (None, 3.0, PROBED),  # overshoot
        (0.75, 4.0, PROBED / 2), (0.5, 8.0, PROBED / 2),  # only one of the two says so
        (0.98, 64.0, -PROBED), (0.9, 16.0, -PROBED),  # sound
        (0.8, 8.0, 0.0), (0.98, None, 0.0), (None, 64.0, 0.0), (0.95, 8.0, 0.0), (None, None, 0.0),  # neither
        (-7.0, 2e-4, 0.0),  # the point itself is broken: no step size would help
    ],
)  # fmt: skip
def test_a_clue_for_or_against_steps_that_were_too_large(rho, factor, weight):
    patient = probed(HEALTHY, rho, factor)
    assert sum(each.weight for each in probed_clues(patient)) == weight
    assert sum(each.weight for each in steps_were_sound(patient)) == -weight


def test_a_probe_decides_between_neighbours():
    assert HEALTHY.optimizer is not None
    explodes = PATIENTS["exploding-gradients"]
    optimizer = replace(HEALTHY.optimizer, lr=1.0, update_ratio=0.05, hottest_ratio=0.06, update_ratio_onset=1e4)
    doubtful = replace(explodes, optimizer=optimizer, onset=Onset(39, 41, (19, 39)))
    assert next(iter(ranking(probed(doubtful, -0.4, 1.0)))) == "lr-too-high"
    assert next(iter(ranking(probed(doubtful, 0.99, 64.0)))) == "exploding-gradients"


def test_a_probe_that_agrees_leaves_the_verdict():
    assert next(iter(ranking(probed(PATIENTS["lr-too-high"], -0.4, 1.0)))) == "lr-too-high"
    for neighbour in ("exploding-gradients", "data-outlier"):
        assert next(iter(ranking(probed(PATIENTS[neighbour], 0.99, 64.0)))) == neighbour


def test_a_probe_does_not_make_a_healthy_run_sick():
    assert ranking(probed(HEALTHY, -0.4, 1.0)) == {}


def test_only_the_steps_before_onset_count():
    made = run(steps=30, loss=[1.0] * 20 + [50.0] * 10, lr=0.1, gradient_norm=1.0)
    for step, rho, factor in ((0, 0.2, 2.0), (1, 0.2, 2.0), *((step, 0.97, 60.0) for step in range(4, 19, 2))):
        made.step = step
        made.row("rho", "overshoot", "call", value=rho)
        made.row("critical_factor", "overshoot", "call", value=factor)
    for made.step in (20, 23, 26, 29):
        made.row("rho", "overshoot", "call", value=-1e9)
    found = gather(made.trace())
    assert found.onset.step == 20 and found.overshoot is not None
    assert (found.overshoot.rho, found.overshoot.factor, found.overshoot.probed) == (0.97, 60.0, 14)
    assert found.overshoot.rho_overall == 0.97


def test_without_a_probe_nothing_is_claimed():
    assert gather(run(steps=5).trace()).overshoot is None and probed_clues(HEALTHY) == []
