"""Programs on which recorders stumble: each prints the same, to both streams, with and without the recording."""

import subprocess
import sys
from pathlib import Path

import pytest

import nandoctor

PROGRAMS = sorted((Path(__file__).parent / "pitfalls").glob("*.py"))


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_recording_changes_nothing(program, tmp_path):
    (tmp_path / "train.py").write_text(program.read_text())
    plain = subprocess.run([sys.executable, "train.py"], cwd=tmp_path, capture_output=True, text=True)
    assert plain.returncode == 0, plain.stderr
    recorded = subprocess.run(
        [sys.executable, "-m", "nandoctor", "record", "--", sys.executable, "train.py"],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert recorded.returncode == 0, recorded.stderr
    assert recorded.stdout == plain.stdout
    own = [line for line in recorded.stderr.splitlines() if line.startswith("nandoctor: ")]
    others = [line for line in recorded.stderr.splitlines() if not line.startswith("nandoctor: ")]
    assert others == plain.stderr.splitlines()
    assert not any("failed" in line for line in own)
    rows = nandoctor.read_trace(tmp_path / "run.parquet")
    assert {"loss", "step", "weight", "parameter_gradient"} <= set(rows.kind)
