"""On a healthy run active mode does nothing: not one action, and output, exit code and weights as without it."""

import sys

import pytest

from tests import harness

SCARY = ("healthy_spike_recovers", "healthy_scaler_first_skips", "healthy_lbfgs_bf16", "healthy_missing_values")


def active(program: str) -> harness.Run:
    place = harness.Workplace(program)
    try:
        command = [sys.executable, "-m", "nandoctor", "treat", "-o", str(place.folder / "run.parquet"), "--"]
        done, digest = place.execute([*command, "python", place.file])
        stderr, _ = harness.split_said(place.mask(done.stderr))
        return harness.Run(place.mask(done.stdout), stderr, done.returncode, digest, place.folder, place.file)
    finally:
        place.remove()


@pytest.mark.parametrize("name", SCARY)
def test_a_healthy_run_is_left_alone(name):
    label = harness.labels("scripts")[name]
    program = harness.strip(label.path.read_text(encoding="utf-8"))

    assert active(program).compared() == harness.run_plain(program).compared()
