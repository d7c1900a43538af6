"""Recordings of trainings that use torch.compile, for real: what is compiled stays the same, what is seen is told."""

import sys
from pathlib import Path

import pytest

import nandoctor
from tests.ranks.runs import ran

PROGRAM = str(Path(__file__).parent / "program.py")
WAYS = ("module", "method", "block", "step")


@pytest.fixture(scope="module")
def healthy(tmp_path_factory):
    """(plain, recorded): four ways to compile, after another; one trace holds them all."""
    folder = tmp_path_factory.mktemp("compiled")
    command = [sys.executable, PROGRAM, "aot_eager", ",".join(WAYS), "healthy"]
    thin = ["--whole-steps", "5", "--budget", "20"]  # then hooks come and go, for other programs
    return ran(command, folder / "plain", False), ran(command, folder / "recorded", True, thin)


@pytest.fixture(scope="module")
def sick(tmp_path_factory):
    """(compiled, --eager)"""
    folder = tmp_path_factory.mktemp("sick")
    command = [sys.executable, PROGRAM, "aot_eager", "module", "sick"]
    return ran(command, folder / "compiled", True), ran(command, folder / "eager", True, ["--eager"])


def test_no_graph_break_no_recompile_no_frame_is_added_and_the_results_are_equal(healthy):
    plain, recorded = healthy
    assert plain.exit_code == 0, plain.stderr
    assert recorded.stdout == plain.stdout  # losses, weights and all of Dynamo's counters
    assert "unique_graphs" in plain.stdout
    assert not any("failed" in line for line in recorded.said)


def test_inductor_compiles_the_same_with_the_recording(tmp_path):
    command = [sys.executable, PROGRAM, "inductor", "block", "healthy"]
    plain, recorded = ran(command, tmp_path / "plain", False), ran(command, tmp_path / "recorded", True)
    if plain.exit_code != 0:
        pytest.skip("inductor finds no compiler on this machine")
    assert recorded.stdout == plain.stdout
    rows = nandoctor.read_trace(recorded.folder / "run.parquet")
    assert set(rows[rows.kind == "activation"]["layer"]) == {"blocks.0", "blocks.1", "head"}


def test_a_compiled_region_is_one_block_with_output_gradient_and_names_of_the_user(healthy):
    rows = nandoctor.read_trace(healthy[1].folder / "run.parquet")
    seen = rows[rows.kind.isin(["activation", "output_gradient"])]
    layers = {name.removeprefix("net.").removeprefix("model.") for name in seen["layer"].unique()}
    assert {"blocks.0", "blocks.1", "head"} <= layers
    assert not any("orig_mod" in name or "Optimized" in name for name in rows["layer"].dropna().unique())
    assert set(seen["module"].dropna()) <= {"Net", "Block", "Linear"}


def test_gradients_weights_loss_and_optimizer_are_recorded_whichever_way_it_is_compiled(healthy):
    rows = nandoctor.read_trace(healthy[1].folder / "run.parquet")
    assert (rows.kind == "loss").sum() == 12 * len(WAYS)
    for kind in ("parameter_gradient", "weight"):
        measured = rows[rows.kind == kind]
        names = {name.removeprefix("net.").removeprefix("model.") for name in measured["layer"].unique()}
        assert {"blocks.0.a.weight", "blocks.1.a.bias", "head.weight"} <= names
        assert not any(name.startswith("param.") for name in names)
    assert {"update", "learning_rate", "gradient_norm", "clip"} <= set(rows.kind)


def test_what_could_not_be_seen_is_said_with_the_way_to_see_it(sick):
    found = nandoctor.diagnose(sick[0].folder / "run.parquet")
    assert any("compiled region is one block" in text and "--eager" in text for text in found.not_seen)
    bad = found.first_nonfinite
    assert (bad.step, bad.phase, bad.layer, bad.module, bad.op) == (7, "forward", "", "Net", None)
    assert Path(bad.file).name == "program.py" and "model(x)" in bad.text


def test_eager_runs_the_same_script_uncompiled_and_names_the_operation(sick):
    assert "unique_graphs" in sick[0].stdout and "unique_graphs" not in sick[1].stdout
    found = nandoctor.diagnose(sick[1].folder / "run.parquet")
    bad = found.first_nonfinite
    assert (found.verdict, bad.step, bad.op) == ("unsafe-op", 7, "log")
    assert "torch.log(x + 8.0)" in bad.text
    assert not any("torch.compile" in text for text in found.not_seen)


def test_a_healthy_compiled_run_is_not_accused(healthy):
    assert nandoctor.diagnose(healthy[1].folder / "run.parquet").verdict == "healthy"
