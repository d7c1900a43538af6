"""Tensors on an accelerator: their numbers arrive a step later, and nothing is lost. Here with tensors of the CPU."""

import subprocess
import sys
from pathlib import Path

import nandoctor

PROGRAM = Path(__file__).parent / "away_program.py"


def record(folder: Path, fault: int, whole_steps: int) -> Path:
    subprocess.run([sys.executable, str(PROGRAM), str(fault), str(whole_steps)], cwd=folder, check=True)
    return folder / "run.parquet"


def test_numbers_that_arrive_a_step_later_belong_to_their_own_step(tmp_path):
    rows = nandoctor.read_trace(record(tmp_path, -1, 5))
    for kind in ("loss", "gradient_norm", "parameter_gradient"):
        assert sorted(set(rows[rows.kind == kind].step)) == list(range(20)), kind
    totals = rows[rows.kind == "gradient_norm"].set_index("step").value
    squares = rows[rows.kind == "parameter_gradient"].assign(square=lambda r: r.norm**2).groupby("step").square.sum()
    assert ((totals - squares**0.5).abs() < 1e-4 * totals).all()
    assert (totals > 0).all()
    assert set(rows[rows.kind == "activation"].step) == set(range(5))
    assert (rows[rows.kind == "activation"].norm > 0).all()


def test_gradients_that_were_not_finite_are_told_of_a_step_later_with_their_own_step(tmp_path):
    found = nandoctor.diagnose(record(tmp_path, 12, 5))
    assert found.first_nonfinite is not None
    assert (found.first_nonfinite.step, found.first_nonfinite.phase) == (12, "backward")
