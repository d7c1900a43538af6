"""finish(): a spool becomes a file once, whole, and nothing that exists is touched."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nandoctor.errors import UserError
from nandoctor.trace import recover
from nandoctor.trace.open import newest_trace, open_trace
from nandoctor.trace.recover import finish
from nandoctor.trace.schema import ROW
from tests.builders import Run, run


def test_the_file_takes_the_name_of_its_spool_and_the_spool_goes(tmp_path):
    assert run(loss="3 2 1").file(tmp_path / "run.parquet") == tmp_path / "run.parquet"
    assert os.listdir(tmp_path) == ["run.parquet"]


def test_a_row_cut_by_a_kill_is_left_out(tmp_path):
    spool = run(loss="3 2 1").spool(tmp_path / "run.parquet")
    size = (spool / "rows.bin").stat().st_size
    os.truncate(spool / "rows.bin", size - 1)
    with open(spool / "notes.jsonl", "a") as notes:
        notes.write('{"note": "end", "exit_co')
    trace = open_trace(finish(spool))
    assert trace.steps == 2  # the third step's row was the last
    assert len(trace.rows("loss")) == 3


@pytest.mark.parametrize("links", [True, False])
def test_nothing_that_exists_is_overwritten(tmp_path, monkeypatch, links):
    if not links:
        monkeypatch.setattr(os, "link", _no_links)
    spool = run(loss="3 2 1").spool(tmp_path / "run.parquet")
    (tmp_path / "run.parquet").write_text("a thesis")
    (tmp_path / "run.2.parquet").symlink_to("nowhere")
    assert finish(spool) == tmp_path / "run.3.parquet"
    assert (tmp_path / "run.parquet").read_text() == "a thesis"
    assert sorted(os.listdir(tmp_path)) == ["run.2.parquet", "run.3.parquet", "run.parquet"]


def _no_links(*_):
    raise OSError(95, "Operation not supported")


def test_a_run_in_which_nothing_trained_leaves_nothing(tmp_path):
    evaluation = Run()
    evaluation.tensor("activation", "fc", 1.0, mode="eval")
    evaluation.note("exception", type="ValueError", message="", frames=[], last=[])
    assert finish(evaluation.spool(tmp_path / "run.parquet")) is None
    assert os.listdir(tmp_path) == []


def test_a_training_that_died_before_its_first_backward_is_kept(tmp_path):
    died = Run()
    died.tensor("activation", "fc", 1.0)
    assert finish(died.spool(tmp_path / "a.parquet")) is None
    died.note("exception", type="ValueError", message="", frames=[], last=[])
    assert finish(died.spool(tmp_path / "a.parquet")) == tmp_path / "a.parquet"


def test_a_spool_finished_by_another_process_is_found(tmp_path):
    output = run(loss="3 2").file(tmp_path / "run.parquet")
    assert finish(tmp_path / "run.parquet.spool") == output


def test_finishing_again_after_a_kill_before_the_spool_was_removed_makes_no_second_file(tmp_path, monkeypatch):
    spool = run(loss="3 2").spool(tmp_path / "run.parquet")
    monkeypatch.setattr(recover, "_remove", lambda spool: None)
    finish(spool)
    monkeypatch.undo()
    assert newest_trace(tmp_path) == tmp_path / "run.parquet"
    assert finish(spool) == tmp_path / "run.parquet"
    assert os.listdir(tmp_path) == ["run.parquet"]


FINISH = """
import sys
from pathlib import Path
from nandoctor.trace.recover import finish
finish(Path(sys.argv[1]))
"""


def test_finishing_killed_at_any_moment_leaves_the_spool_or_the_whole_file(tmp_path):
    made = run(loss="3 2 1", steps=3000, activations={f"layer{n}": 1 for n in range(10)})
    chance = random.Random(0)
    killed = 0
    for attempt in range(8):
        output = tmp_path / f"{attempt}.parquet"
        spool = made.spool(output)
        process = subprocess.Popen([sys.executable, "-c", FINISH, str(spool)], start_new_session=True)
        unfinished = spool / recover.UNFINISHED
        while process.poll() is None and not unfinished.exists():
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.15))
        process.kill()
        killed += process.wait() == -signal.SIGKILL
        if output.exists():
            assert open_trace(output).steps == 3000
        assert open_trace(output if output.exists() else spool).steps == 3000
        assert [path.name for path in tmp_path.glob(f"{attempt}.*")] == [output.name]
    assert killed


def test_two_processes_that_finish_one_spool_write_one_file(tmp_path):
    spool = run(loss="3 2 1", steps=2000).spool(tmp_path / "run.parquet")
    both = [subprocess.Popen([sys.executable, "-c", FINISH, str(spool)], stderr=subprocess.DEVNULL) for _ in "ab"]
    for process in both:
        process.wait()
    assert os.listdir(tmp_path) == ["run.parquet"]


def test_what_is_no_spool_is_refused_in_words(tmp_path):
    (tmp_path / "data").mkdir()
    for path in (tmp_path / "data", tmp_path / "none.parquet.spool"):
        with pytest.raises(UserError):
            finish(path)
    assert (tmp_path / "data").is_dir()


MEMORY = """
import sys
from pathlib import Path
from nandoctor.trace.recover import finish
import nandoctor.trace.parquet
def highest():  # since this program began; getrusage counts what its parent had, too
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
before = highest()
finish(Path(sys.argv[1]))
print(highest() - before, "pandas" in sys.modules)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from Linux's /proc")
def test_two_million_rows_are_finished_in_bounded_memory_and_without_pandas(tmp_path):
    few, many = (_memory_of(tmp_path / f"{rows}.parquet", rows) for rows in (500_000, 2_000_000))
    assert many < 250 * 1024  # kB; the rows alone are 80 MB, and all their columns more than 400 MB
    assert many < 2 * few  # does not grow with the rows


def _memory_of(output: Path, rows: int) -> int:
    made = run(loss=1.0, steps=1000, activations={f"layer{n}": 1 for n in range(20)})
    spool = made.spool(output)
    once = (spool / "rows.bin").read_bytes()
    with open(spool / "rows.bin", "ab") as file:
        for _ in range(rows * ROW.size // len(once)):
            file.write(once)
    words = subprocess.check_output([sys.executable, "-c", MEMORY, str(spool)], text=True).split()
    assert words[1] == "False"
    return int(words[0])
