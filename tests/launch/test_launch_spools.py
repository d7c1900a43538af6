"""What becomes of the spools of a command: named, finished, told in two lines; or left, and said why."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nandoctor.launch import spools
from nandoctor.launch.child import Ended
from nandoctor.trace.open import open_trace
from nandoctor.trace.recover import finish
from nandoctor.trace.schema import KIND, NO_SHAPE, ROW
from nandoctor.trace.spool import SpoolWriter, free_output
from tests.launch.commands import NANDOCTOR, nandoctor, plain, recorded, spooling

KILLED = 'steps(3)\nwriter._notes and os.write(writer._notes.descriptor, b\'{"note": "cut\')\nos.kill(os.getpid(), 9)'


def steps_in(path):
    return open_trace(Path(path)).steps


def test_a_recording_ends_in_two_lines_and_one_file(tmp_path):
    seen = recorded(spooling("steps(4)"), tmp_path)

    assert seen.stderr.decode().splitlines() == [
        "nandoctor: wrote run.parquet",
        "nandoctor: next: nandoctor diagnose run.parquet",
    ]
    assert seen.stdout == b"" and seen.returncode == 0
    assert os.listdir(tmp_path) == ["run.parquet"]
    trace = open_trace(tmp_path / "run.parquet")
    assert trace.steps == 4
    assert trace.end["exit_code"] == 0 and "of" not in trace.end


def test_quiet_says_nothing(tmp_path):
    seen = nandoctor("record", "--quiet", "-o", "a b/x.parquet", "--", *spooling("steps(1)"), folder=tmp_path)
    assert seen.stderr == b""
    assert steps_in(tmp_path / "a b" / "x.parquet") == 1


def test_the_next_command_can_be_pasted(tmp_path):
    seen = nandoctor("record", "-o", "a b.parquet", "--", *spooling("steps(1)"), folder=tmp_path)
    assert seen.stderr.decode().splitlines()[1] == "nandoctor: next: nandoctor diagnose 'a b.parquet'"


def test_a_killed_training_leaves_a_trace_that_knows_it(tmp_path):
    seen = recorded(spooling(KILLED), tmp_path)

    assert seen.returncode == 128 + 9
    trace = open_trace(tmp_path / "run.parquet")
    assert trace.steps == 3
    assert trace.end["exit_code"] == -9


def test_a_training_started_by_a_shell_is_recorded_with_the_shells_exit_code(tmp_path):
    (tmp_path / "train.py").write_text(spooling("steps(2)\nsys.exit(1)")[-1])
    (tmp_path / "run.sh").write_text(f"{sys.executable} train.py\n{sys.executable} train.py\nexit 4\n")

    seen = recorded(["bash", "run.sh"], tmp_path)

    assert seen.returncode == 4
    assert seen.stderr.decode().splitlines() == [
        "nandoctor: wrote run.parquet",
        "nandoctor: wrote run.2.parquet",
        "nandoctor: next: nandoctor diagnose run.2.parquet",
    ]
    end = open_trace(tmp_path / "run.parquet").end
    assert end["exit_code"] == 4 and end["of"] == "command"


def test_nothing_that_exists_is_touched(tmp_path):
    for name in ("run.parquet", "run.2.parquet"):
        (tmp_path / name).write_text("mine")
    (tmp_path / "run.3.parquet.spool").mkdir()  # claimed by a recording of somebody else

    recorded(spooling("steps(1)"), tmp_path)

    assert (tmp_path / "run.parquet").read_text() == (tmp_path / "run.2.parquet").read_text() == "mine"
    assert sorted(os.listdir(tmp_path))[1:] == ["run.3.parquet.spool", "run.4.parquet", "run.parquet"]
    assert steps_in(tmp_path / "run.4.parquet") == 1


def test_two_recordings_side_by_side_each_tell_their_own(tmp_path):
    meeting = "import pathlib\npathlib.Path(f'{os.getpid()}.here').touch()\n" + (
        "while len(list(pathlib.Path().glob('*.here'))) < 2: time.sleep(0.01)\n"
    )
    both = [
        subprocess.Popen(
            [*NANDOCTOR, "record", "--", *spooling(f"{meeting}steps({steps})")],
            cwd=tmp_path, stderr=subprocess.PIPE, text=True,
        )
        for steps in (5, 7)
    ]  # fmt: skip

    told = [process.communicate()[1].splitlines()[0].removeprefix("nandoctor: wrote ") for process in both]

    assert sorted(told) == ["run.2.parquet", "run.parquet"]
    assert [steps_in(tmp_path / name) for name in told] == [5, 7]


def test_a_spool_in_which_nothing_trained_becomes_no_trace(tmp_path):
    seen = recorded(spooling(""), tmp_path)
    assert "no trace was written" in seen.stderr.decode()
    assert os.listdir(tmp_path) == []


def test_a_process_that_still_records_keeps_its_spool_until_it_is_recovered(tmp_path):
    (tmp_path / "train.py").write_text(spooling("steps(2)\nos.close(1)\nos.close(2)\nsys.stdin.read()")[-1])
    reading, writing = os.pipe()
    begun = "while [ ! -s run.parquet.spool/rows.bin ]; do sleep 0.05; done"
    script = f"exec 3<&0; {sys.executable} train.py <&3 & {begun}"
    try:
        seen = recorded(["bash", "-c", script], tmp_path, stdin=reading)
        os.close(reading)

        assert "still records into run.parquet.spool" in seen.stderr.decode()
        assert seen.returncode == 0
        refused = nandoctor("record", "--recover", "run.parquet.spool", folder=tmp_path)
        assert refused.returncode == 2 and "STILL RECORDING" in refused.stderr.decode()
    finally:
        os.close(writing)  # the training ends
    assert recovered(tmp_path) == "run.parquet"
    assert steps_in(tmp_path / "run.parquet") == 2


def recovered(folder):
    """Recover once the writer has ended."""
    while True:
        seen = nandoctor("record", "--recover", "run.parquet.spool", folder=folder)
        if b"STILL RECORDING" not in seen.stderr:
            assert seen.returncode == 0, seen.stderr
            return seen.stdout.decode().strip()
        time.sleep(0.05)


def test_a_killed_parent_leaves_a_spool_that_can_be_recovered(tmp_path):
    waiting = spooling("steps(3)\nprint('ready', flush=True)\nsys.stdin.read()")
    parent = subprocess.Popen(
        [*NANDOCTOR, "record", "--", *waiting], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    parent.stdout.readline()
    parent.kill()
    parent.communicate()  # closes the training's stdin, too: it ends

    assert recovered(tmp_path) == "run.parquet"
    assert steps_in(tmp_path / "run.parquet") == 3
    assert os.listdir(tmp_path) == ["run.parquet"]


def test_what_cannot_be_recovered_is_said(tmp_path):
    assert "NO SPOOL THERE" in nandoctor("record", "--recover", "x.spool", folder=tmp_path).stderr.decode()
    (tmp_path / "x.spool").mkdir()
    seen = nandoctor("record", "--recover", "x.spool", folder=tmp_path)
    assert "THE SPOOL IS UNREADABLE" in seen.stderr.decode()
    assert seen.returncode == 2
    assert (tmp_path / "x.spool").is_dir()


def test_secrets_of_the_command_line_do_not_reach_the_recording(tmp_path):
    telling = "import json\nwriter.note('seen', command=json.loads(os.environ['NANDOCTOR_COMMAND']))\n"
    program = spooling(telling + "steps(1)")
    recorded([*program, "--token", "hunter2", "--lr", "0.1"], tmp_path)
    (note,) = open_trace(tmp_path / "run.parquet").notes_of("seen")
    assert note["command"][-4:] == ["--token", "***", "--lr", "0.1"]


def test_a_failing_finish_keeps_the_exit_code_and_the_spool(tmp_path):
    damage = "rows = writer.folder + '/rows.bin'\nos.unlink(rows)\nos.mkdir(rows)\n"
    program = spooling("steps(1)\n" + damage + "sys.exit(6)")
    seen = plain([*NANDOCTOR, "record", "--", *program], tmp_path)
    assert seen.returncode == 6
    assert "could not turn run.parquet.spool into a trace" in seen.stderr.decode()
    assert os.listdir(tmp_path) == ["run.parquet.spool"]


@pytest.fixture
def left(tmp_path):
    """A spool whose writer has ended."""
    writer = SpoolWriter(free_output(str(tmp_path / "run.parquet")))
    writer.note("header", version=1, session="s", pid=7)
    writer.note("subject", id=0, name="optimizer", role="optimizer")
    writer.rows(ROW.pack(0, 0, NO_SHAPE, 0, KIND["step"], 0, 0, 0, 0.0, 0.0, 1.0))
    return Path(writer.folder)


@pytest.mark.parametrize("moment", ["writer_lives", "append_note", "finished"])
def test_a_diagnose_in_another_window_may_finish_the_spool_first(left, monkeypatch, moment):
    meant = getattr(spools, moment)

    def late(*arguments, **fields):
        if left.exists():
            finish(left)
        return meant(*arguments, **fields)

    monkeypatch.setattr(spools, moment, late)
    closed = spools.close(str(left), {"pid": 7}, Ended(7, 0))
    assert closed == spools.Closed(str(left.with_suffix("")))
    assert os.listdir(left.parent) == ["run.parquet"] and steps_in(left.parent / "run.parquet") == 1


def test_a_note_written_into_a_spool_that_is_being_removed_is_no_trouble(left, monkeypatch):
    def removed_but_for_the_note(spool, kind, **fields):
        finish(left)
        left.mkdir()
        (left / "notes.jsonl").write_text("our note\n")

    monkeypatch.setattr(spools, "append_note", removed_but_for_the_note)
    assert spools.close(str(left), {"pid": 7}, Ended(7, 0)).output == str(left.with_suffix(""))
    assert os.listdir(left.parent) == ["run.parquet"]


def test_a_trace_finished_before_the_command_ended_is_still_told(tmp_path):
    (tmp_path / "train.py").write_text(spooling("steps(2)")[-1])
    mark = "touch $NANDOCTOR_MARKS/torch"  # as the inject does when torch is imported
    look = f"{sys.executable} -m nandoctor show run.parquet.spool > /dev/null"
    seen = recorded(["bash", "-c", f"{mark}; {sys.executable} train.py; {look}"], tmp_path)
    assert seen.stderr.decode().splitlines()[0] == "nandoctor: wrote run.parquet"
    assert set(os.listdir(tmp_path)) == {"run.parquet", "train.py"}


def test_an_output_folder_removed_during_the_command_is_told(tmp_path):
    seen = nandoctor("record", "-o", "gone/run.parquet", "--", "sh", "-c", "rm -r gone; exit 3", folder=tmp_path)
    assert seen.returncode == 3
    assert seen.stderr.decode() == "nandoctor: no trace was written: gone was removed while the command ran.\n"


@pytest.mark.parametrize("reason", ["", "cannot write the trace: disk full"])
def test_a_recording_that_failed_is_not_called_a_run_without_training(tmp_path, reason):
    left = f"touch $NANDOCTOR_MARKS/torch; printf '{reason}' > $NANDOCTOR_MARKS/failed"
    told = recorded(["sh", "-c", left], tmp_path).stderr.decode()
    assert (reason or "its own line above says why") in told
    assert "backward" not in told and "never" not in told


def test_torch_without_backward_and_step_is_told_as_that(tmp_path):
    told = recorded(["sh", "-c", "touch $NANDOCTOR_MARKS/torch"], tmp_path).stderr.decode()
    assert "no backward() and no optimizer.step() was called in it" in told
    assert "torch.autograd.grad with updates by hand is not recorded" in told
