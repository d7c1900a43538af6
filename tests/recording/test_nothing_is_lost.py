"""Kills, failing probes, live traces: what was recorded stays readable and the training is left alone."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import nandoctor

TRAINING = """
import sys, torch
torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 1))
optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
for step in range(int(sys.argv[1])):
    optimizer.zero_grad()
    net(torch.randn(4, 8)).pow(2).mean().backward()
    optimizer.step()
    print(step, flush=True)
"""


def start(folder: Path, steps: int, script: str = TRAINING) -> "subprocess.Popen[str]":
    (folder / "train.py").write_text(script)
    command = [sys.executable, "-m", "nandoctor", "record", "--", sys.executable, "train.py", str(steps)]
    return subprocess.Popen(command, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def read_until(recording: "subprocess.Popen[str]", step: int) -> int:
    """Steps that the training has printed by then."""
    assert recording.stdout is not None
    seen = -1
    while seen < step:
        seen = int(recording.stdout.readline())
    return seen + 1


def child_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


linux = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the training's pid through /proc")


@linux
@pytest.mark.parametrize("seed", range(3))
def test_a_killed_training_leaves_every_completed_step(tmp_path, seed):
    recording = start(tmp_path, 1_000_000)
    printed = read_until(recording, random.Random(seed).randrange(1, 400))
    os.kill(child_of(recording.pid), signal.SIGKILL)
    output, messages = recording.communicate()
    assert recording.returncode == 128 + signal.SIGKILL
    printed += len(output.splitlines()) - (0 if output.endswith("\n") or not output else 1)
    rows = nandoctor.read_trace(tmp_path / "run.parquet")
    assert (rows.kind == "step").sum() >= printed
    assert "run.parquet" in messages


@linux
@pytest.mark.parametrize("finish", ["diagnose", "recover"])
def test_a_killed_recording_is_finished_by_the_next_command(tmp_path, finish):
    recording = start(tmp_path, 1_000_000)
    printed = read_until(recording, 50)
    training = child_of(recording.pid)
    recording.kill()
    recording.wait()
    alive = nandoctor.read_trace(tmp_path / "run.parquet")  # the training goes on: read as far as it goes
    assert (alive.kind == "step").sum() >= printed
    report = subprocess.run(
        [sys.executable, "-m", "nandoctor", "diagnose"], cwd=tmp_path, capture_output=True, text=True
    )
    assert report.returncode == 0 and "still" in report.stdout
    os.kill(training, signal.SIGKILL)
    while (tmp_path / "run.parquet.spool").exists() and Path(f"/proc/{training}").exists():
        time.sleep(0.01)
    arguments = ["diagnose"] if finish == "diagnose" else ["record", "--recover", "run.parquet.spool"]
    done = subprocess.run(
        [sys.executable, "-m", "nandoctor", *arguments], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run.parquet").is_file() and not (tmp_path / "run.parquet.spool").exists()


@pytest.mark.parametrize("moment", ["lock", "rows.bin", "notes.jsonl", "reserve", "header", "subject"])
def test_a_signal_handler_that_raises_as_the_spool_is_made_leaves_none_behind(tmp_path, moment):
    """As torch's does when a worker of a DataLoader was killed."""
    strikes = "\n".join([
        "import signal",
        "from _nandoctor.trace import spool",
        "def late(number, frame):",
        "    raise RuntimeError('a worker was killed')",
        "signal.signal(signal.SIGUSR1, late)",
        f"left = [{moment!r}]",
        "def struck(event, args):",
        "    if event == 'open' and left and str(args[0]).endswith(os.path.join('.spool', left[0])):",
        "        left.clear()",
        "        signal.raise_signal(signal.SIGUSR1)",
        "def note(writer, kind, /, **fields):",
        "    if kind in left:",
        "        left.clear()",
        "        signal.raise_signal(signal.SIGUSR1)",
        "    noted(writer, kind, **fields)",
        "sys.addaudithook(struck)",
        "noted, spool.SpoolWriter.note = spool.SpoolWriter.note, note",
    ])  # fmt: skip
    call = "net(torch.randn(4, 8)).pow(2).mean().backward()"
    script = TRAINING.replace("import sys, torch", f"import os, sys, torch\n{strikes}")
    script = script.replace(call, f"try: {call}\n    except RuntimeError as error: print(error)")
    recording = start(tmp_path, 20, script)
    output, messages = recording.communicate()
    assert recording.returncode == 0 and output.count("a worker was killed") == 1, messages
    assert [path.name for path in tmp_path.glob("run*")] == ["run.parquet"], messages
    assert (nandoctor.read_trace(tmp_path / "run.parquet").kind == "step").sum() == 20


def test_a_failing_probe_is_noted_and_the_training_goes_on(tmp_path):
    broken = (
        "import sys, torch\ndef broken(tensor): raise RuntimeError('no reading today')\n"
        "sys.modules['_nandoctor.recording.probes.forward'].measure = broken\n"
    )
    recording = start(tmp_path, 30, broken + TRAINING)
    output, messages = recording.communicate()
    assert recording.returncode == 0
    assert output.splitlines() == [str(step) for step in range(30)]
    assert "forward probe failed" in messages and "no reading today" in messages
    rows = nandoctor.read_trace(tmp_path / "run.parquet")
    assert (rows.kind == "loss").sum() == 30
    report = subprocess.run(
        [sys.executable, "-m", "nandoctor", "diagnose", "--full"], cwd=tmp_path, capture_output=True, text=True
    )
    assert "no reading today" in report.stdout


def test_a_training_in_a_forked_child_is_left_alone(tmp_path):
    forking = TRAINING + (
        "import os\npid = os.fork()\n"
        "if pid == 0:\n    net(torch.randn(4, 8)).sum().backward(); optimizer.step(); os._exit(0)\n"
        "print(os.waitpid(pid, 0)[1])\n"
    )
    recording = start(tmp_path, 5, forking)
    output, _ = recording.communicate()
    assert output.splitlines()[-1] == "0"
    assert (nandoctor.read_trace(tmp_path / "run.parquet").kind == "step").sum() == 5
