"""Rows read in parts are the rows read whole: the same values for every way to choose them."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nandoctor.diagnosis import diagnose_trace
from nandoctor.evidence import gather
from nandoctor.report import json
from nandoctor.trace.open import open_trace
from nandoctor.trace.schema import KIND_NAMES
from nandoctor.trace.table import InGroups, InMemory, Kept, Rows
from nandoctor.trace.trace import Trace, dtype_of
from tests.builders import run

SAMPLES = sorted((Path(__file__).parent.parent.parent / "sample_logs").glob("*.parquet"))
DTYPE = dtype_of("loss")


def in_memory(trace: Trace) -> Trace:
    """The same trace with every kind read whole, as one structured array."""
    return dataclasses.replace(trace, load=lambda kind: np.asarray(trace.rows(kind)), _cache={})


def in_parts(records: np.ndarray, random: np.random.Generator, parts: int, kept: int = 1 << 20) -> Rows:
    """As they lie in a file: each part shuffled, with rows of other kinds between."""
    bounds = np.sort(random.integers(0, len(records) + 1, parts - 1))
    groups, held = [], []
    for part in np.split(records, bounds):
        mixed = np.concatenate([part, np.zeros(int(random.integers(0, 4)), DTYPE)])
        shuffled = random.permutation(len(mixed))
        groups.append(mixed[shuffled])
        held.append(np.flatnonzero(shuffled < len(part)))
    return Rows(InGroups("loss", DTYPE, list(enumerate(held)), lambda group, name: groups[group][name], Kept(kept)))


def made(random: np.random.Generator, count: int) -> np.ndarray:
    records = np.zeros(count, DTYPE)
    records["order"] = np.cumsum(random.integers(1, 5, count))
    records["step"] = np.arange(count) // 3
    records["subject"] = random.integers(0, 3, count)
    records["value"] = random.normal(size=count)
    return records


def assert_same(rows: Rows, records: np.ndarray) -> None:
    assert len(rows) == len(records)
    for name in records.dtype.names:
        np.testing.assert_array_equal(rows[name], records[name])
    np.testing.assert_array_equal(np.asarray(rows), records)
    assert [float(row["value"]) for row in rows] == records["value"].tolist()


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), count=st.integers(1, 60), parts=st.integers(1, 6))
def test_every_choice_of_rows_gives_what_an_array_gives(seed, count, parts):
    random = np.random.default_rng(seed)
    records = made(random, count)
    chosen = random.integers(-count, count, 5)
    for rows in (in_parts(records, random, parts), in_parts(records, random, parts, kept=1), Rows(InMemory(records))):
        assert_same(rows[rows["step"] >= count // 6], records[records["step"] >= count // 6])
        late, late_records = rows[rows["value"] > 0], records[records["value"] > 0]
        assert_same(late, late_records)
        assert_same(late[late["step"] < 5], late_records[late_records["step"] < 5])
        assert_same(late[::-1][:3], late_records[::-1][:3])
        assert_same(rows[chosen], records[chosen])
        assert_same(rows[2:], records[2:])
        assert rows[-1] == records[-1] and rows[0]["value"] == records[0]["value"]
        assert_same(rows, records)


def test_a_window_reads_only_the_parts_that_it_lies_in():
    random = np.random.default_rng(0)
    records = made(random, 300)
    read = []

    def column(group: int, name: str) -> np.ndarray:
        read.append((group, name))
        return records[100 * group : 100 * (group + 1)][name]

    rows = Rows(InGroups("loss", DTYPE, [(0, None), (1, None), (2, None)], column, Kept(1 << 20)))
    window = rows[rows["step"] == 50]
    read.clear()
    assert window["value"].tolist() == records[150:153]["value"].tolist()
    assert read == [(1, "value")]


def test_what_was_read_is_kept_as_far_as_it_fits():
    made_how_often = []

    def make() -> np.ndarray:
        made_how_often.append(1)
        return np.zeros(10)

    kept = Kept(limit=200)
    for key in ("a", "b", "a", "c", "a", "b"):  # two fit: c drives b out, a was asked for since
        kept.get(key, make)
    assert len(made_how_often) == 4


def test_a_mask_of_another_length_and_a_place_beyond_the_end_are_refused():
    rows = in_parts(made(np.random.default_rng(0), 10), np.random.default_rng(0), 2)
    for wrong in (np.ones(9, bool), 10, np.array([-11])):
        with pytest.raises(IndexError):
            rows[wrong]


def test_parts_that_do_not_follow_each_other_in_time_are_put_in_order():
    records = made(np.random.default_rng(0), 10)
    halves = [records[1::2], records[::2]]
    rows = Rows(InGroups("loss", DTYPE, [(0, None), (1, None)], lambda g, name: halves[g][name], Kept(1 << 20)))
    assert_same(rows, records)
    assert_same(rows[rows["step"] > 1], records[records["step"] > 1])


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_evidence_and_diagnosis_are_those_of_rows_read_whole(path):
    trace = open_trace(path)
    whole = in_memory(trace)
    assert repr(gather(open_trace(path))) == repr(gather(whole))
    assert json.render(diagnose_trace(open_trace(path))) == json.render(diagnose_trace(whole))


@pytest.mark.parametrize("alone", [1, 40, 10**6])
def test_evidence_is_the_same_however_the_file_is_cut(tmp_path, monkeypatch, alone):
    """Small blocks and row groups, so that every kind lies in many of them; against the rows in memory."""
    monkeypatch.setattr("nandoctor.trace.parquet.BLOCK_ROWS", 97)
    monkeypatch.setattr("nandoctor.trace.parquet.OWN_GROUP", alone)
    loss = [2.0 / (1 + step / 20) for step in range(110)] + [3.0 * 4**step for step in range(9)] + [float("nan")]
    made = run(
        loss=loss, gradient_norm=loss, batch=1.0, lr="0.1 0.1 0.2", epoch_length=30, clip=1.0, dtype="float16",
        activations={"a": 1.0, "b": loss}, output_gradients={"b": 1.0, "a": loss, "c": 2.0},
        gradients={"a.weight": loss}, weights={"a.weight": 1.0, "b.weight": 2.0}, updates={"a.weight": 0.1},
        loss_scale=1024.0,
    )  # fmt: skip
    trace = open_trace(made.file(tmp_path / "run.parquet"))
    assert repr(gather(trace)) == repr(gather(made.trace()))
    for kind in KIND_NAMES:
        for field in dtype_of(kind).names:
            found, wanted = trace.rows(kind)[field], made.trace().rows(kind)[field]
            np.testing.assert_array_equal(found, wanted, f"{kind}.{field}")
