"""Accelerate: `nandoctor record -- accelerate launch train.py`."""

import pytest

import nandoctor
from tests import harness
from tests.frameworks import runs

pytest.importorskip("accelerate")


@pytest.fixture(scope="module")
def sick(tmp_path_factory):
    """A NaN among the targets of batch 13, which the loader of Accelerate draws one batch ahead."""
    program = runs.program("accelerated", SICK=True)
    keep = tmp_path_factory.mktemp("sick") / "run.parquet"
    run = harness.run_recorded(program, keep, runs.accelerate_launch())
    assert run.trace is not None, run.stderr
    return program, run, harness.diagnose(run.trace), runs.frame(run.trace)


@pytest.fixture(scope="module")
def healthy(tmp_path_factory):
    program = runs.program("accelerated")
    keep = tmp_path_factory.mktemp("healthy") / "run.parquet"
    launcher = runs.accelerate_launch()
    return harness.run_plain(program, launcher), harness.run_recorded(program, keep, launcher)


def test_the_launcher_leaves_no_trace_of_its_own(sick):
    assert sick[1].said.count("nandoctor: wrote") == 1


def test_the_cause_is_named_with_batch_row_and_line(sick):
    program, _, found, _ = sick
    first = found["first_nonfinite"]
    assert found["verdict"] == "bad-labels"
    assert (first["step"], first["batch"], first["phase"]) == (6, 13, "input")
    assert (first["row"], first["index"], first["tensor"]) == (3, 0, "1")
    assert program.splitlines()[first["line"] - 1].strip() == "for inputs, wanted in loader:"
    assert "accelerate/data_loader.py" in first["library_file"]


def test_prepared_objects_are_seen_under_the_users_names(sick):
    rows = sick[3]
    assert runs.names(rows) == {"first", "head"}
    optimizer = nandoctor.diagnose(sick[1].trace).evidence.optimizer
    assert "AdamW" in optimizer.name
    assert rows[rows.kind == "learning_rate"].value.nunique() > 10  # the prepared scheduler's


def test_accumulate_clip_and_mixed_precision_are_seen(sick):
    _, _, found, rows = sick
    assert found["run"]["steps"] == 20 and (rows.kind == "backward").sum() == 40
    assert set(rows[rows.kind == "backward"].divisor) == {2.0}  # Accelerate divides the loss by itself
    assert set(rows[rows.kind == "clip"].max_norm) == {1.0}
    assert "bfloat16" in set(rows[rows.kind == "activation"].dtype)


def test_code_lines_are_written_for_accelerate(healthy, sick):
    style = nandoctor.diagnose(healthy[1].trace).evidence.style
    assert style.accelerate and not style.hf_trainer and not style.lightning
    codes = " ".join(r.code or "" for f in nandoctor.diagnose(sick[1].trace).findings for r in f.remedies)
    assert "accelerator." in codes or "clip" not in codes


def test_a_healthy_run_is_silent_and_stays_as_it_was(healthy):
    seen = [(run.stdout, run.stderr, run.exit_code) for run in healthy]
    assert seen[0] == seen[1]  # the program prints a digest of its weights and of its random generator
    found = harness.diagnose(healthy[1].trace)
    assert (found["verdict"], found["first_nonfinite"], found["exit"]) == ("healthy", None, 0)
