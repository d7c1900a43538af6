"""Hugging Face's Trainer under `nandoctor record`, and with nandoctor's callback."""

import json
import shutil

import pytest

import nandoctor
from tests import harness
from tests.frameworks import runs

pytest.importorskip("transformers")
pytest.importorskip("accelerate")


@pytest.fixture(scope="module")
def sick(tmp_path_factory):
    """A text that holds nothing but padding: its pooled state is 0/0, in batch 11."""
    program = runs.program("hf_trainer", SICK=True)
    run = harness.run_recorded(program, tmp_path_factory.mktemp("sick") / "run.parquet")
    assert run.trace is not None, run.stderr
    return program, run, harness.diagnose(run.trace), runs.frame(run.trace)


@pytest.fixture(scope="module")
def healthy(tmp_path_factory):
    program = runs.program("hf_trainer")
    keep = tmp_path_factory.mktemp("healthy") / "run.parquet"
    return harness.run_plain(program), harness.run_recorded(program, keep)


@pytest.fixture(scope="module")
def blocks(tmp_path_factory):
    """One process with a `with` block, or the callback, for each of several trainings."""
    folder = tmp_path_factory.mktemp("blocks")
    return folder, runs.execute("hf_blocks", folder)


def test_the_cause_is_named_at_its_step_layer_and_line(sick):
    program, _, found, _ = sick
    first = found["first_nonfinite"]
    assert found["verdict"] == "unsafe-op"
    assert (first["step"], first["batch"], first["micro"]) == (5, 11, 1)
    assert (first["phase"], first["layer"], first["op"]) == ("forward", "pooled", "div")
    assert "mask.sum(1, keepdim=True)" in program.splitlines()[first["line"] - 1]


def test_what_a_model_is_given_by_keyword_and_returns_in_a_model_output_is_recorded(sick):
    rows = sick[3]
    given = rows[rows.kind == "input"]
    assert {"input_ids", "attention_mask", "labels"} <= set(given.tensor)
    assert "transformer.h.0.attn.c_attn" in runs.names(rows) and "lm_head" in runs.names(rows)


def test_labels_of_minus_100_are_counted_and_not_accused(sick):
    labels = sick[3][sick[3].kind == "labels"]
    assert set(labels[labels.layer == "labels"].ignored) == {4 * 8}
    assert set(labels[labels.layer == "NllLoss"].ignored) == {3 * 8}  # the first token predicts nothing
    assert "bad-labels" not in [finding["cause"] for finding in sick[2]["findings"]]


def test_accumulation_clipping_precision_and_schedule_are_seen(sick):
    _, _, found, rows = sick
    assert found["run"]["steps"] == 24 and (rows.kind == "backward").sum() == 48
    assert set(rows[rows.kind == "clip"].max_norm) == {0.5}
    assert "bfloat16" in set(rows[rows.kind == "activation"].dtype)
    assert rows[rows.kind == "learning_rate"].value.nunique() > 10


def test_evaluation_is_told_apart_from_training(sick):
    drawn = sick[3][(sick[3].kind == "labels") & (sick[3].layer == "labels")]
    modes = drawn["mode"].value_counts()
    assert modes["train"] in (48, 49) and modes["eval"] == 3 * 2  # Accelerate draws one batch ahead


def test_code_lines_are_training_arguments(sick):
    codes = " ".join(r.code or "" for f in nandoctor.diagnose(sick[1].trace).findings for r in f.remedies)
    assert "TrainerCallback.on_pre_optimizer_step" in codes or "TrainingArguments(" in codes


def test_the_nan_filter_of_the_trainers_log_fools_nobody(sick, tmp_path):
    """`logging_nan_inf_filter` is on by default: the log shows finite losses to the end."""
    logged = [line for line in sick[1].stdout.splitlines() if "'loss'" in line]
    assert len(logged) == 6 and not any("nan" in line.partition("'grad_norm'")[0] for line in logged)
    shutil.copyfile(sick[1].trace, tmp_path / "run.parquet")
    losses = [{"step": 4 * n, "loss": 4.1, "epoch": n / 8} for n in range(1, 7)]
    (tmp_path / "trainer_state.json").write_text(json.dumps({"log_history": losses}))
    found = harness.diagnose(tmp_path / "run.parquet")
    assert found["verdict"] == "unsafe-op" and found["first_nonfinite"]["step"] == 5
    assert any("logging_nan_inf_filter" in text for text in found["not_seen"])


def test_a_state_of_another_run_or_a_broken_one_says_nothing(sick, tmp_path):
    shutil.copyfile(sick[1].trace, tmp_path / "run.parquet")
    entries = ("{", '{"log_history": [{"step": 4000, "loss": 1.0}]}', '{"log_history": [{"step": 8, "loss": NaN}]}')
    for content in entries:
        (tmp_path / "trainer_state.json").write_text(content)
        assert not any("trainer_state" in text for text in harness.diagnose(tmp_path / "run.parquet")["not_seen"])


def test_a_healthy_run_is_silent_and_stays_as_it_was(healthy):
    plain, recorded = healthy
    assert recorded.compared() == plain.compared()
    found = harness.diagnose(recorded.trace)
    assert (found["verdict"], found["first_nonfinite"], found["exit"]) == ("healthy", None, 0)


def test_the_fp16_argument_is_taken_as_it_acts(blocks):
    assert harness.diagnose(blocks[0] / "fp16.parquet")["verdict"] == "healthy"


def test_a_batch_whose_labels_are_all_ignored_is_named(blocks):
    found = harness.diagnose(blocks[0] / "ignored.parquet")
    first = found["first_nonfinite"]
    assert found["verdict"] == "bad-labels"
    assert (first["step"], first["op"]) == (5, "cross_entropy")
    assert first["library_file"].endswith("modeling_bert.py") and first["line"] is not None


def test_the_trainers_own_division_is_no_accumulation_bug(blocks):
    found = harness.diagnose(blocks[0] / "accumulated.parquet")
    assert (found["verdict"], found["findings"]) == ("healthy", [])


def test_the_callback_records_the_same_and_changes_nothing(blocks):
    assert blocks[1]["same"]
    rows = runs.frame(blocks[0] / "callback.parquet")
    assert (rows.kind == "step").sum() == 12 and "transformer.wte" in runs.names(rows)


def test_after_an_exception_the_callbacks_trace_is_finished_with_the_process(blocks):
    assert "index out of range" in blocks[1]["said"]
    assert harness.diagnose(blocks[0] / "callback.2.parquet")["run"]["steps"] == 5
