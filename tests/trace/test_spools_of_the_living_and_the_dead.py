"""A writer killed at any moment leaves a readable trace; one that still writes is read as far as it goes."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nandoctor.errors import UserError
from nandoctor.trace.frame import read_trace
from nandoctor.trace.open import open_trace
from tests.builders import run

WRITER = """
import sys, time
from nandoctor.trace.schema import KIND, ROW, VERSION
from nandoctor.trace.spool import SpoolWriter, free_output
output = free_output(sys.argv[1])
writer = SpoolWriter(output)
writer.note("header", version=VERSION)
for number, name in enumerate(("fc", "backward", "step")):
    writer.note("subject", id=number, name=name, role="module")
for step in range(int(sys.argv[2])):
    rows = [ROW.pack(step, 0, 65535, 0, KIND["activation"], 1, 0, 0, -1.0, 1.0, 2.0)] * 50
    rows += [ROW.pack(step, 1, 65535, 0, KIND["backward"], 0, 0, 0, 0.0, 0.0, 2.3)]
    rows += [ROW.pack(step, 2, 65535, 0, KIND["step"], 0, 0, 0, 0.0, 0.0, 1.0)]
    writer.rows(b"".join(rows))
    print(step + 1, flush=True)
time.sleep(60)
"""


def writer(output: Path, steps: int) -> "subprocess.Popen[str]":
    return subprocess.Popen([sys.executable, "-c", WRITER, str(output), str(steps)], stdout=subprocess.PIPE, text=True)


def test_a_writer_killed_at_any_moment_leaves_every_step_that_it_completed(tmp_path):
    chance = random.Random(1)
    for attempt in range(6):
        output = tmp_path / f"{attempt}.parquet"
        process = writer(output, 1_000_000)
        said = [process.stdout.readline()]
        time.sleep(chance.uniform(0, 0.05))
        process.kill()
        said += process.stdout.readlines()
        process.wait()
        completed = int([line for line in said if line.endswith("\n")][-1])
        trace = open_trace(output)
        assert not trace.alive and output.is_file() and not Path(f"{output}.spool").exists()
        assert trace.steps in (completed, completed + 1)
        assert len(trace.rows("activation")) >= 50 * trace.steps
        assert trace.rows("step")["step"].tolist() == list(range(trace.steps))


def test_a_spool_that_is_still_written_is_read_as_far_as_it_goes_and_left_alone(tmp_path):
    process = writer(tmp_path / "run.parquet", 20)
    try:
        for _ in range(20):
            process.stdout.readline()
        for path in (tmp_path / "run.parquet", tmp_path / "run.parquet.spool"):
            trace = open_trace(path)
            assert trace.alive and trace.steps == 20
            assert trace.rows("activation")["batch"].tolist() == [step for step in range(20) for _ in range(50)]
        assert len(read_trace(tmp_path / "run.parquet")) == 20 * 52
        assert os.listdir(tmp_path) == ["run.parquet.spool"]
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    assert trace.steps == 20  # what was opened stays readable
    assert open_trace(tmp_path / "run.parquet").steps == 20
    assert os.listdir(tmp_path) == ["run.parquet"]


def test_a_spool_in_a_folder_that_may_not_be_written_is_read_where_it_lies(tmp_path, monkeypatch):
    spool = run(loss="3 2 nan").spool(tmp_path / "run.parquet")

    def read_only(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("nandoctor.trace.open.finish", read_only)  # root, who runs some tests, may write everywhere
    trace = open_trace(tmp_path / "run.parquet")
    assert trace.steps == 3 and not trace.alive and trace.path == str(spool)
    assert len(read_trace(spool)) == 3 * 5 + 1  # five rows a step and an epoch


@pytest.mark.parametrize("missing", ["rows.bin", "notes.jsonl"])
def test_a_spool_that_lacks_a_file_is_no_bug(tmp_path, missing):
    spool = run(loss="3 2 nan").spool(tmp_path / "run.parquet")
    (spool / missing).unlink()
    if missing == "rows.bin":
        with pytest.raises(UserError):
            open_trace(spool)
    else:
        assert open_trace(spool).steps == 3


def test_a_name_that_was_just_claimed_is_not_taken_away(tmp_path):
    (tmp_path / "run.parquet.spool").mkdir()
    with pytest.raises(UserError):
        open_trace(tmp_path / "run.parquet")
    assert (tmp_path / "run.parquet.spool").is_dir()
