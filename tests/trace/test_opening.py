"""open_trace: whatever lies at a path is a readable trace or an error in words."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nandoctor.errors import UserError
from nandoctor.trace.open import newest_trace, open_trace, rows_by_kind
from nandoctor.trace.schema import KIND_NAMES, VERSION
from tests.builders import Run, run


@pytest.fixture
def good(tmp_path):
    made = run(loss="3 2 inf nan", activations={"fc1": "1 2 inf", "fc2": 1}, epoch_length=2, gradient_norm=1.0)
    return made.file(tmp_path / "run.parquet")


def rewritten(good, tmp_path, metadata=None, change=lambda table: table):
    """The good trace with something changed, written by plain pyarrow."""
    kept = pq.read_metadata(good).metadata
    table = change(pq.read_table(good)).replace_schema_metadata({**kept, **(metadata or {})})
    pq.write_table(table, tmp_path / "changed.parquet")
    return tmp_path / "changed.parquet"


def test_only_the_row_groups_of_a_kind_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr("nandoctor.trace.parquet.OWN_GROUP", 50)
    path = run(steps=100, activations={"fc": 1}).file(tmp_path / "run.parquet")
    trace = open_trace(path)
    file = pq.ParquetFile(path)
    kinds = [set(file.read_row_group(group, ["kind"])["kind"].to_pylist()) for group in range(file.num_row_groups)]
    assert {"activation"} in kinds
    bad = next(group for group, held in enumerate(kinds) if held == {"activation"})
    start = file.metadata.row_group(bad).column(0).data_page_offset
    content = bytearray(path.read_bytes())
    content[start : start + 40] = bytes(40)
    path.write_bytes(content)
    assert trace.steps == 100  # from the file as it was opened, past the damage
    with pytest.raises(UserError):
        open_trace(path).rows("activation")


def test_a_file_rewritten_by_another_program_with_its_rows_in_another_order_reads_the_same(good, tmp_path):
    shuffled = rewritten(
        good, tmp_path, change=lambda table: table.take(np.random.default_rng(0).permutation(len(table)))
    )
    before, after = open_trace(good), open_trace(shuffled)
    assert rows_by_kind(before) == rows_by_kind(after)
    for kind in KIND_NAMES:
        for field in before.rows(kind).dtype.names:
            np.testing.assert_array_equal(before.rows(kind)[field], after.rows(kind)[field])


def test_counts_by_kind_are_those_of_the_rows(good):
    trace = open_trace(good)
    assert rows_by_kind(trace) == {kind: len(trace.rows(kind)) for kind in KIND_NAMES}


def test_no_file(tmp_path):
    assert_refused(tmp_path / "none.parquet", "no file")


def test_a_folder(tmp_path):
    assert_refused(tmp_path, "is a folder")


@pytest.mark.parametrize(
    "content, words",
    [
        (b"", "it is empty"),
        (b"loss 2.3\nloss nan\n", "no Parquet file"),
        (b"PAR1", "was cut"),
        (b"PAR1" + bytes(100), "was cut"),
        (b"PAR1" + b"\xff\xff\xff\x7f" + b"PAR1", "was cut"),
        (b"PAR1" + b"\xff" * 40 + b"\x20\0\0\0" + b"PAR1", "damaged"),
        (b"PAR1" + b"\xff" * 40 + b"\xff\xff\xff\x7f" + b"PAR1", "damaged"),
    ],
)
def test_what_is_no_parquet_file(tmp_path, content, words):
    (tmp_path / "run.parquet").write_bytes(content)
    assert_refused(tmp_path / "run.parquet", words)


def test_a_truncated_trace(good):
    content = good.read_bytes()
    for share in (0.1, 0.5, 0.9, 0.999):
        good.write_bytes(content[: int(len(content) * share)])
        assert_refused(good, "its end is missing")


def test_another_programs_parquet(tmp_path):
    pq.write_table(pa.table({"kind": ["loss"], "value": [1.0]}), tmp_path / "x.parquet")
    assert_refused(tmp_path / "x.parquet", "another program's")


def test_a_newer_trace_says_which_nandoctor_reads_it(good, tmp_path):
    notes = json.dumps([{"note": "header", "version": VERSION + 1, "nandoctor": "9.8.7"}])
    path = rewritten(good, tmp_path, {b"nandoctor.version": str(VERSION + 1).encode(), b"nandoctor": notes.encode()})
    error = assert_refused(path, "nandoctor 9.8.7")
    assert "nandoctor>=9.8.7" in error.try_this


def test_a_newer_spool_says_so_and_is_left_as_it_is(tmp_path):
    spool = Run(version=VERSION + 1, nandoctor="9.8.7").spool(tmp_path / "run.parquet")
    assert_refused(spool, "nandoctor 9.8.7")
    assert sorted(os.listdir(spool)) == ["lock", "notes.jsonl", "reserve", "rows.bin"]


@pytest.mark.parametrize("version", [b"0", b"-1", b"one", b"", b"\xff", b"9" * 5000])
def test_a_version_that_never_existed(good, tmp_path, version):
    assert_refused(rewritten(good, tmp_path, {b"nandoctor.version": version}), "")


@pytest.mark.parametrize("notes", [b"", b"{", b"{}", b"3", b"[" * 100_000])
def test_notes_that_are_none(good, tmp_path, notes):
    assert_refused(rewritten(good, tmp_path, {b"nandoctor": notes}), "")


def test_an_integer_of_five_thousand_digits_is_infinite(good, tmp_path):
    notes = b'[{"note": "end", "exit_code": ' + b"1" * 5000 + b"}]"
    assert open_trace(rewritten(good, tmp_path, {b"nandoctor": notes})).end["exit_code"] == float("inf")


def test_notes_of_nonsense_are_left_out(good, tmp_path):
    nonsense = [
        1,
        None,
        [],
        {},
        {"note": 3},
        {"note": "subject"},
        {"note": "subject", "id": "x"},
        {"note": "subject", "id": -1},
        {"note": "subject", "id": True},
        {"note": "subject", "id": 1, "module": {}},
        {"note": "shape", "id": 10**9, "shape": []},
        {"note": "shape", "id": 1, "shape": "2x3"},
        {"note": "shape", "id": 1, "shape": [2.5]},
        {"note": "header", "version": {}},
        {"note": "shape", "id": 0, "shape": [10**18] * 50},
    ]
    trace = open_trace(rewritten(good, tmp_path, {b"nandoctor": json.dumps(nonsense).encode()}))
    assert trace.subjects == {} and trace.steps == 4
    assert len(trace.rows("activation")) == 8


def test_columns_of_nonsense_are_clipped(good, tmp_path):
    def change(table):
        for name, value in (("step", -5), ("subject", -7), ("batch", -1), ("micro", -1), ("call", -1)):
            place = table.schema.get_field_index(name)
            table = table.set_column(place, name, pa.array([value] * len(table), pa.int32()))
        for name in ("mode", "dtype", "shape", "layer"):
            place = table.schema.get_field_index(name)
            table = table.set_column(place, name, pa.array(["\x1b[2J"] * len(table)))
        return table

    rows = open_trace(rewritten(good, tmp_path, change=change)).rows("activation")
    assert len(rows) == 8 and rows["step"].min() == 0 and rows["batch"].min() == 0
    assert set(rows["subject"].tolist()) == {-1} and set(rows["mode"].tolist()) == {0}


@pytest.mark.parametrize("name", ["order", "kind", "subject", "low", "nonfinite", "shape"])
@pytest.mark.parametrize("how", ["missing", "of another type", "twice"])
def test_a_column_that_is_not_as_it_should(good, tmp_path, name, how):
    def change(table):
        place = table.schema.get_field_index(name)
        wrong = pa.array([[1]] * len(table))
        if how == "twice":
            return table.append_column(name, wrong)
        return table.drop_columns([name]) if how == "missing" else table.set_column(place, name, wrong)

    assert_refused(rewritten(good, tmp_path, change=change), name)


def test_a_file_that_claims_more_rows_than_it_can_hold(good, tmp_path, monkeypatch):
    monkeypatch.setattr("nandoctor.trace.open.ROWS_OF_ANY_FILE", 1000)
    monkeypatch.setattr("nandoctor.trace.open.ROWS_PER_BYTE", 2)  # pyarrow itself writes 20 nulls a byte at most
    table = pq.read_table(good).slice(0, 1)
    huge = pa.Table.from_arrays(
        [
            pa.DictionaryArray.from_arrays(
                pa.array(np.zeros(100_000, "i4")), column.combine_chunks()
            ).dictionary_decode()
            if pa.types.is_string(column.type)
            else pa.nulls(100_000, column.type)
            for column in table.columns
        ],
        names=table.column_names,
    )
    kept = pq.read_metadata(good).metadata
    pq.write_table(
        huge.replace_schema_metadata(kept),
        tmp_path / "bomb.parquet",
        compression="zstd",
        row_group_size=100_000,
    )
    assert_refused(tmp_path / "bomb.parquet", "more rows than it can hold")


@pytest.mark.skipif(os.geteuid() == 0 and not Path("/usr/bin/setpriv").exists(), reason="root may read everything")
def test_a_trace_that_may_not_be_read(good):
    good.chmod(0)
    if os.geteuid() != 0:
        assert_refused(good, "permission")
        return
    good.parent.chmod(0o755)
    for parent in list(good.parents)[:3]:
        parent.chmod(0o755)
    code = "from pathlib import Path; from nandoctor.trace.open import open_trace; "
    code += f"open_trace(Path({str(good)!r}))"
    command = ["setpriv", "--reuid=65534", "--clear-groups", sys.executable, "-c", code]
    found = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent.parent.parent)
    assert "UserError" in found.stderr and "no permission" in found.stderr


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "run.parquet")
    assert_refused(tmp_path / "run.parquet", "regular file")


def test_bytes_changed_anywhere_give_rows_or_an_error_in_words(good):
    content = good.read_bytes()
    chance = random.Random(0)
    refused = 0
    for _ in range(150):
        damaged = bytearray(content)
        for _ in range(chance.choice([1, 1, 5])):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        good.write_bytes(damaged)
        try:
            trace = open_trace(good)
            for kind in KIND_NAMES:
                trace.rows(kind)
        except UserError as error:
            assert error.exit_code == 2
            refused += 1
    assert refused > 20


def test_the_newest_trace_is_the_one_written_to_last(good, tmp_path):
    pq.write_table(pa.table({"x": [1]}), tmp_path / "data.parquet")
    (tmp_path / "empty.parquet").touch()
    assert newest_trace(tmp_path) == good
    spool = run(loss="1").spool(tmp_path / "run.2.parquet")
    assert newest_trace(tmp_path) == spool
    os.utime(good, ns=(4_000_000_000 * 10**9,) * 2)
    assert newest_trace(tmp_path) == good


def test_no_trace_in_a_folder(tmp_path):
    with pytest.raises(UserError) as caught:
        newest_trace(tmp_path)
    assert str(tmp_path) in caught.value.happened


def assert_refused(path, words):
    with pytest.raises(UserError) as caught:
        open_trace(path)
    assert caught.value.exit_code == 2
    assert words in caught.value.happened, caught.value.happened
    assert str(path) in caught.value.happened
    return caught.value
