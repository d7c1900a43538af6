"""Distributed trainings of two ranks, recorded for real: one folder for each, and who was first."""

import os
import subprocess
import sys

import duckdb
import pandas as pd
import pyarrow.dataset
import pytest

import nandoctor
from nandoctor.trace.open import newest_trace
from nandoctor.trace.ranks import open_ranks
from tests.ranks.runs import PROGRAMS, TORCHRUN, ran

WORLDS = ("calm", "too_fast", "drift", "uneven", "killed", "hangs", "sharded")


@pytest.fixture(scope="module")
def under_torchrun(tmp_path_factory):
    """(plain, recorded)"""
    folder = tmp_path_factory.mktemp("torchrun")
    command = [*TORCHRUN, str(PROGRAMS / "torchrun_ddp.py")]
    return ran(command, folder / "plain", False), ran(command, folder / "recorded", True)


@pytest.fixture(scope="module")
def worlds(tmp_path_factory):
    """One command that runs seven distributed trainings after another: the folder with its traces."""
    command = [sys.executable, str(PROGRAMS / "worlds.py"), *WORLDS]
    return ran(command, tmp_path_factory.mktemp("worlds"), True)


@pytest.fixture(scope="module")
def thin(tmp_path_factory):
    """Two of them with hardly any step recorded whole."""
    command = [sys.executable, str(PROGRAMS / "worlds.py"), "late", "sharded"]
    return ran(command, tmp_path_factory.mktemp("thin"), True, ["--whole-steps", "3", "--budget", "0.01"])


def trace_of(worlds, name):
    number = WORLDS.index(name) + 1
    return worlds.folder / ("run.parquet" if number == 1 else f"run.{number}.parquet")


# --- torchrun and DDP ----------------------------------------------------------------------------------------
def test_recording_changes_nothing_on_any_rank(under_torchrun):
    plain, recorded = under_torchrun
    assert plain.exit_code == recorded.exit_code == 0, recorded.stderr
    assert recorded.stdout == plain.stdout
    for rank in ("said.0", "said.1"):
        assert recorded.file(rank) == plain.file(rank)
    assert not any("failed" in line for line in recorded.said)


def test_every_rank_records_its_own_file_into_one_folder(under_torchrun):
    folder = under_torchrun[1].folder / "run.parquet"
    visible = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    assert visible == ["rank-00000.parquet", "rank-00001.parquet"]
    assert under_torchrun[1].said[0] == "nandoctor: wrote run.parquet, 2 ranks"
    assert newest_trace(folder.parent) == folder


def test_the_launcher_that_imports_torch_and_trains_nothing_leaves_no_trace(under_torchrun):
    assert sorted(os.listdir(under_torchrun[1].folder)) == ["run.parquet", "said.0", "said.1"]


def test_the_folder_reads_as_one_data_set_everywhere(under_torchrun):
    folder = str(under_torchrun[1].folder / "run.parquet")
    query = f"SELECT rank, count(*) FROM '{folder}/*.parquet' GROUP BY rank ORDER BY rank"
    counts = dict(duckdb.sql(query).fetchall())
    assert set(counts) == {0, 1}
    assert pd.read_parquet(folder).groupby("rank").size().to_dict() == counts
    assert pyarrow.dataset.dataset(folder).count_rows() == sum(counts.values())
    assert nandoctor.read_trace(folder).groupby("rank").size().to_dict() == counts


def test_one_rank_with_bad_data_is_named_with_step_row_and_index(under_torchrun):
    found = nandoctor.diagnose(under_torchrun[1].folder / "run.parquet")
    assert found.verdict == "bad-input-data"
    assert (found.run.rank, found.run.ranks) == (1, 2)
    bad = found.first_nonfinite
    assert (bad.step, bad.phase, bad.row, bad.index) == (5, "input", 2, 1)
    assert "rank 1 alone left its path at step 5" in found.across_ranks[0]


def test_the_local_gradient_is_told_from_the_averaged_one(under_torchrun):
    rows = nandoctor.read_trace(under_torchrun[1].folder / "run.parquet")
    rows = rows[(rows.step == 2) & (rows.layer == "2.bias")]
    local = rows[rows.kind == "local_gradient"].sort_values(["rank", "order"]).groupby("rank").tail(1)
    averaged = rows[rows.kind == "parameter_gradient"].set_index("rank")["norm"].astype(float)
    assert averaged[0] == averaged[1]
    first, second = local["value"].astype(float)
    assert first != second
    # one element, so norms are magnitudes: the average of the two, whichever their signs
    assert any(abs(averaged[0] - abs(first + sign * second) / 2) < 1e-6 for sign in (1, -1))


def test_before_and_after_the_average_is_said_where_one_rank_was_bad(under_torchrun):
    told = nandoctor.diagnose(under_torchrun[1].folder / "run.parquet").across_ranks
    assert any("before the ranks' were averaged" in text and "nan (rank 1); averaged: nan" in text for text in told)


def test_a_rank_whose_own_gradients_were_finite_is_not_blamed(under_torchrun):
    found = nandoctor.diagnose(under_torchrun[1].folder / "run.parquet" / "rank-00000.parquet")
    assert found.first_nonfinite.layer is None and "another rank" in found.first_nonfinite.unknown


def test_accumulation_under_no_sync_counts_as_micro_steps(under_torchrun):
    found = nandoctor.diagnose(under_torchrun[1].folder / "run.parquet")
    assert found.first_nonfinite.micro == 1
    causes = {finding.cause for finding in found.findings if finding.confidence >= 0.5}
    assert "gradient-accumulation-bug" not in causes


@pytest.mark.parametrize("command", [["show"], ["show", "--step", "5", "--kind", "loss"], ["plot", "loss"]])
def test_show_and_plot_take_the_folder(under_torchrun, command):
    arguments = [sys.executable, "-m", "nandoctor", *command, "run.parquet"]
    done = subprocess.run(arguments, cwd=under_torchrun[1].folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (under_torchrun[1].folder / "loss.png").unlink(missing_ok=True)
    if command[0] == "show":
        assert "rank" in done.stdout and "nan" in done.stdout


def test_two_folders_are_not_compared_and_a_folder_of_nothing_is_said(under_torchrun, tmp_path):
    folder = str(under_torchrun[1].folder / "run.parquet")
    (tmp_path / "empty.parquet").mkdir()
    for arguments, title in (([folder, folder], "ONE RANK AT A TIME"), ([str(tmp_path / "empty.parquet")], "A FOLDER")):
        done = subprocess.run(
            [sys.executable, "-m", "nandoctor", "diagnose", *arguments], capture_output=True, text=True
        )
        assert done.returncode == 2 and done.stderr.startswith(f"-- {title}")


# --- seven trainings by one command ----------------------------------------------------------------------------
def test_each_distributed_training_of_a_command_gets_its_own_folder_and_a_line(worlds):
    assert worlds.exit_code == 0, worlds.stderr
    assert worlds.said[:-1] == [f"nandoctor: wrote {trace_of(worlds, name).name}, 2 ranks" for name in WORLDS]
    assert not [name for name in os.listdir(worlds.folder) if name.endswith((".spool", ".making"))]


def test_a_healthy_distributed_run_is_not_accused(worlds):
    found = nandoctor.diagnose(trace_of(worlds, "calm"))
    assert found.verdict == "healthy" and found.first_nonfinite is None
    assert found.across_ranks == ()


def test_ranks_that_diverge_together_are_told_from_one_with_bad_data(worlds):
    found = nandoctor.diagnose(trace_of(worlds, "too_fast"))
    assert found.verdict == "lr-too-high"
    assert "all 2 ranks left their path together" in found.across_ranks[0]


def test_a_replica_that_differs_is_found_with_its_rank_and_step(worlds):
    found = nandoctor.diagnose(trace_of(worlds, "drift"))
    desync = found.evidence.ranks.desync
    assert (desync.step, desync.parameter, desync.rank) == (10, "0.weight", 1)
    assert desync.gradients_equal
    assert not found.healthy
    assert found.findings[0].cause == "hardware-fault" and found.findings[0].confidence < 0.5  # a candidate


def test_a_replica_that_differs_is_found_at_thin_steps_too(thin):
    desync = nandoctor.diagnose(thin.folder / "run.parquet").evidence.ranks.desync
    assert (desync.step, desync.parameter, desync.gradients_equal) == (128, "2.weight", True)


def test_the_verdict_is_right_at_thin_steps_of_sharded_ranks(thin):
    found = nandoctor.diagnose(thin.folder / "run.2.parquet")
    assert (found.run.rank, found.first_nonfinite.step, found.first_nonfinite.phase) == (1, 4, "input")
    assert not any("probe failed" in text for text in found.not_seen)


def test_an_uneven_last_batch_on_one_rank_alone_is_seen(worlds):
    found = nandoctor.diagnose(trace_of(worlds, "uneven"))
    assert found.verdict == "batchnorm-tiny-batch" and found.run.rank == 1
    told = " ".join(found.across_ranks)
    assert "at step 11 8 (rank 0), 1 (rank 1) rows" in told
    assert "rank 0 ended because another one was gone" in told


@pytest.mark.parametrize("name, steps", [("killed", 7), ("hangs", 5)])
def test_a_rank_that_dies_or_hangs_leaves_every_trace_readable(worlds, name, steps):
    folder = trace_of(worlds, name)
    assert {rank: trace.steps for rank, trace in open_ranks(folder).traces.items()} == {0: steps, 1: steps}
    told = nandoctor.diagnose(folder).across_ranks
    assert any(text.startswith(f"rank 1 ended after {steps} steps without a word") for text in told)


# --- fully_shard -----------------------------------------------------------------------------------------------
def test_no_probe_adds_a_collective_under_fully_shard(worlds, thin, tmp_path):
    plain = ran([sys.executable, str(PROGRAMS / "worlds.py"), "sharded"], tmp_path, False)
    for rank in ("said.0", "said.1"):
        assert worlds.file(rank) == thin.file(rank) == plain.file(rank)
        assert int(plain.file(rank)) > 0


def test_local_shards_are_recorded_under_the_names_that_the_user_knows(worlds):
    rows = nandoctor.read_trace(trace_of(worlds, "sharded"))
    weights = rows[(rows.kind == "weight") & (rows.layer == "0.fc.weight")]
    assert set(weights["shape"]) == {"2x4"} and set(weights["rank"]) == {0, 1}  # of 4x4
    assert {"Linear", "LayerNorm"} == set(rows[rows.kind == "activation"]["module"])
    assert {"0.fc", "0.norm", "1.fc", "1.norm", "2"} == set(rows[rows.kind == "activation"]["layer"])
    assert {"parameter_gradient", "update", "denominator"} <= set(rows["kind"])


def test_the_verdict_is_right_under_fully_shard(worlds):
    found = nandoctor.diagnose(trace_of(worlds, "sharded"))
    bad = found.first_nonfinite
    assert (found.verdict, found.run.rank, bad.step, bad.row, bad.index) == ("bad-input-data", 1, 4, 3, 2)
    assert found.evidence.ranks.desync is None  # shards are not replicas
    assert not any("probe failed" in text for text in found.not_seen)
