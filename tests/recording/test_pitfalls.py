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
    if program.stem in IN_THE_TRACE:
        IN_THE_TRACE[program.stem](rows, plain.stdout)


def shapes(rows, printed):
    """Every leaf module is seen whatever stands around it; a shared one by its calls, a shared weight once."""
    outputs = rows[rows.kind == "activation"]
    layers = outputs.layer.astype(str).str.removeprefix("net.")  # a second model is there: the encoder
    parts = {f"parts.{number}.linear" for number in range(3)}
    assert {"first", "inplace", "shared", "tied", "lstm", *parts} <= set(layers)
    assert (outputs[layers == "first"].low < 0).all()  # read before the ReLU behind it wrote into it
    assert (outputs[layers == "inplace"].low >= 0).all()
    assert set(outputs[layers == "shared"].call) == {0, 1}
    gradients = rows[rows.kind == "output_gradient"].layer.astype(str).str.removeprefix("net.")
    assert {"first", "parts.0.linear", "shared"} <= set(gradients)
    weights = rows[(rows.kind == "parameter_gradient") & (rows.step == 0)].layer.astype(str)
    assert weights.str.contains("shared.weight|tied.weight").sum() == 1


def unscaled(rows, printed):
    """A fused optimizer unscales inside its kernel: what is recorded is the gradient all the same."""
    norms = rows[rows.kind == "gradient_norm"].value
    finite = norms[norms.astype(float).abs() < 1e30].astype(float)
    assert len(finite) >= 10 and finite.max() < 50


def recomputed(rows, printed):
    """Activation checkpointing runs the forward again: each layer is recorded once a step, under its own name."""
    outputs = rows[(rows.kind == "activation") & ~rows.recomputed]
    assert set(outputs.layer) == {f"{block}.{part}" for block in range(3) for part in ("linear", "drop")}
    assert (outputs.groupby("layer", observed=True).size() == 8).all()


def no_probe_is_off(rows, printed):
    """The last steps are recorded like the first: an exception of the program's own handler switched nothing off."""
    last = rows[rows.step == min(rows.step.max(), 99)]  # those after the first hundred need not be recorded whole
    assert {"activation", "output_gradient", "parameter_gradient", "loss"} <= set(last.kind)


def told_by_its_loss(rows, printed):
    """The step that anomaly mode ended is there, too."""
    assert (rows.kind == "loss").sum() == 5 and (rows.kind == "step").sum() == 4


def reduced(rows, printed):
    """Under DDP the norm that is recorded is that of the mean over all ranks, as the program itself sees it."""
    seen = rows[rows.kind == "gradient_norm"].value.astype(float).tolist()[:4]
    assert seen == pytest.approx([float(line.split()[2]) for line in printed.splitlines()[:4]], rel=1e-3)
    assert not rows.nonfinite.any()  # a buffer that a collective has yet to fill is nobody's NaN


IN_THE_TRACE = {
    "ranks": reduced,
    "outputs_of_every_shape": shapes,
    "scaler_with_fused_optimizers": unscaled,
    "checkpointed_both_ways": recomputed,
    "signals_raise_anywhere": no_probe_is_off,
    "anomaly_mode": told_by_its_loss,
}
