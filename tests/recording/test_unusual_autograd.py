"""Checkpointing, replicas, fast paths, tied weights, adapters, averages: recorded for real, each in a process."""

import re
import sys
from pathlib import Path

import pytest

import nandoctor
from tests.ranks.runs import ran

PROGRAM = str(Path(__file__).parent / "odd" / "program.py")
WAYS = ("reentrant", "not_reentrant", "replicas", "fast_path", "tied", "adapters", "average")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """(plain, recorded)"""
    folder = tmp_path_factory.mktemp("odd")
    command = [sys.executable, "-u", PROGRAM, *WAYS]
    return ran(command, folder / "plain", False), ran(command, folder / "recorded", True)


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    command = [sys.executable, "-u", PROGRAM, "reentrant", "not_reentrant"]
    return ran(command, tmp_path_factory.mktemp("watched"), True, ["--watch-step", "6"])


def trace_of(run, name):
    number = WAYS.index(name) + 1
    return run.folder / ("run.parquet" if number == 1 else f"run.{number}.parquet")


def rows_of(runs, name):
    return nandoctor.read_trace(trace_of(runs[1], name))


def test_recording_changes_no_number_and_fails_nowhere(runs):
    plain, recorded = runs
    assert recorded.stdout == plain.stdout
    assert [line for line in plain.stdout.splitlines() if line.split()[0] in WAYS] == [f"{name} 0" for name in WAYS]
    assert not any("failed" in line for line in recorded.stderr.splitlines())
    assert len(recorded.said) == len(WAYS) + 1  # a trace and a line for each forked training


@pytest.mark.parametrize("kind", ["reentrant", "not_reentrant"])
def test_a_nan_inside_a_checkpointed_block_is_traced_to_its_line(runs, watched, kind):
    bad = nandoctor.diagnose(trace_of(runs[1], kind)).first_nonfinite
    assert (bad.step, bad.phase, bad.layer, bad.module) == (6, "forward", "blocks.1", "Block")
    assert "torch.log(h + low)" in bad.text  # the only line of the block that can have made it
    assert (bad.op, bad.unknown) == ("log", None)
    found = nandoctor.diagnose(trace_of(watched, kind))  # a second run, watched at that step
    assert (found.verdict, found.first_nonfinite.op, found.first_nonfinite.layer) == ("unsafe-op", "log", "blocks.1")
    assert "torch.log(h + low)" in found.first_nonfinite.text


@pytest.mark.parametrize("kind", ["reentrant", "not_reentrant"])
def test_a_block_that_is_computed_again_counts_once(runs, kind):
    rows = rows_of(runs, kind)
    assert (rows.kind == "backward").sum() == (rows.kind == "step").sum() == 10
    first = rows[(rows.kind == "activation") & (rows.step == 2)]
    assert sorted(first["layer"]) == ["blocks.0.linear", "blocks.1.linear", "blocks.2.linear", "head"]


def test_replicas_of_data_parallel_go_by_the_names_of_their_originals(runs):
    rows = rows_of(runs, "replicas")
    outputs = rows[(rows.kind == "activation") & (rows.step == 3)]
    assert sorted(outputs["layer"]) == ["0", "0", "1", "1", "2", "2"]  # two replicas
    assert set(rows[rows.kind == "weight"]["layer"]) == {"0.weight", "0.bias", "2.weight", "2.bias"}


def test_the_fast_path_in_evaluation_stays_on_and_each_layer_is_one_block(runs):
    rows = rows_of(runs, "fast_path")
    evaluated = rows[(rows.kind == "activation") & (rows["mode"] == "eval")]
    assert set(evaluated["layer"]) == {"0.layers.0", "0.layers.1", "1"}
    trained = rows[(rows.kind == "activation") & (rows["mode"] == "train")]
    assert "0.layers.0.linear1" in set(trained["layer"])


def test_a_tied_weight_has_one_name_one_gradient_and_one_update(runs):
    rows = rows_of(runs, "tied")
    for kind in ("parameter_gradient", "update"):
        step = rows[(rows.kind == kind) & (rows.step == 3)]
        assert sorted(step["layer"]) == ["embed.weight", "inner.bias", "inner.weight"]


def test_adapters_by_hooks_are_recorded_and_frozen_weights_do_not_move(runs):
    rows = rows_of(runs, "adapters")
    assert set(rows[rows.kind == "update"]["layer"]) == {"lora_down.weight", "lora_up.weight"}
    assert {"0", "lora_down", "lora_up", "1", "2"} == set(rows[rows.kind == "activation"]["layer"])


def test_averages_of_the_weights_are_models_of_their_own_under_their_own_names(runs):
    rows = rows_of(runs, "average")
    assert set(rows[rows.kind == "update"]["layer"]) == {f"model.{name}" for name in
                                                         ("0.weight", "0.bias", "2.weight", "2.bias")}  # fmt: skip
    evaluated = {name.partition(".")[0] for name in rows[rows.kind == "activation"]["layer"]}
    assert evaluated == {"model", "shadow", "own"}
    assert not any(re.search(r"\bmodule\b", name) for name in rows["layer"].dropna().unique())


@pytest.mark.parametrize("name", ["replicas", "fast_path", "tied", "adapters", "average"])
def test_none_of_it_is_accused(runs, name):
    found = nandoctor.diagnose(trace_of(runs[1], name))
    assert found.verdict == "healthy" and found.evidence.weights.foreign_writes == ()
