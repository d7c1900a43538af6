"""Commands of several processes: a trace for each that trains, with a name and a line; none for any other."""

import os
import shutil
import sys
from pathlib import Path

import pytest

import nandoctor
from nandoctor.trace.open import open_trace
from tests.ranks.runs import ran

PROCESSES = Path(__file__).parent / "processes"


def names(folder):
    return sorted(name for name in os.listdir(folder) if name.startswith("run"))


def test_a_script_of_trainings_after_one_another_and_side_by_side_gives_a_trace_and_a_line_for_each(tmp_path):
    rates = ("0.01", "0.02 &", "0.04 &")
    lines = [f"{sys.executable} {PROCESSES / 'train.py'} {rate}" for rate in rates]
    (tmp_path / "train.sh").write_text("\n".join([*lines, "wait", ""]))
    seen = ran(["bash", "train.sh"], tmp_path, True)
    assert seen.exit_code == 0, seen.stderr
    files = ["run.parquet", "run.2.parquet", "run.3.parquet"]
    assert seen.said == [*(f"nandoctor: wrote {name}" for name in files),
                         "nandoctor: next: nandoctor diagnose run.3.parquet"]  # fmt: skip
    assert names(tmp_path) == sorted(files)
    used = [open_trace(tmp_path / name).notes_of("optimizer")[0]["groups"][0]["lr"] for name in files]
    assert used[0] == 0.01 and sorted(used) == [0.01, 0.02, 0.04]


@pytest.fixture(scope="module")
def workers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workers")
    for program in PROCESSES.glob("*.py"):
        shutil.copy(program, folder)
    return ran([sys.executable, "workers.py"], folder, True)


def test_workers_that_train_get_a_trace_each_the_driver_and_data_loaders_none(workers):
    assert workers.exit_code == 0 and "fork 1\nspawn 1\nforkserver 0\n" in workers.stdout, workers.stderr
    assert names(workers.folder) == ["run.2.parquet", "run.3.parquet", "run.4.parquet", "run.parquet"]
    assert len(workers.said) == 5
    pids = set()
    for name in names(workers.folder):
        trace = open_trace(workers.folder / name)
        pids.add(trace.header["pid"])
        assert trace.steps == 3 and len(trace.rows("epoch")) == 1
        assert nandoctor.diagnose(workers.folder / name).first_nonfinite is None
    assert len(pids) == 4


def test_the_error_that_ends_a_worker_is_told(workers):
    crashes = [nandoctor.diagnose(workers.folder / name).evidence.crash for name in ("run.parquet", "run.2.parquet")]
    assert [(crash.type, crash.message) for crash in crashes] == [("ValueError", "no more data")] * 2
    assert nandoctor.diagnose(workers.folder / "run.3.parquet").evidence.crash is None
