"""Signals reach the training once, and its answer to them counts."""

import os
import signal
import subprocess
import sys

import pytest

from tests.launch.commands import NANDOCTOR, plain

COUNTING = """
import signal, sys, time
received = []
for number in {numbers}:
    signal.signal(number, lambda number, frame: received.append(int(number)))
print("ready", flush=True)
while not received:
    time.sleep(0.01)
time.sleep(0.3)
print(received, flush=True)
sys.exit(5)
"""


def begin(tmp_path, program):
    """A recording in a group of its own, whose command is ready."""
    process = subprocess.Popen(
        [*NANDOCTOR, "record", "--", sys.executable, "-c", program],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGQUIT"])
def test_a_signal_to_the_parent_is_forwarded(tmp_path, name):
    number = getattr(signal, name)
    process = begin(tmp_path, COUNTING.format(numbers=[int(number)]))

    process.send_signal(number)

    output, _ = process.communicate()
    assert output == f"[{int(number)}]\n"
    assert process.returncode == 5


def test_a_signal_that_the_command_does_not_handle_ends_it(tmp_path):
    process = begin(tmp_path, "import time\nprint('ready', flush=True)\ntime.sleep(600)")
    process.terminate()
    process.communicate()
    assert process.returncode == 128 + signal.SIGTERM


def test_ctrl_c_reaches_the_command_once_and_the_parent_waits(tmp_path):
    process = begin(tmp_path, COUNTING.format(numbers=[int(signal.SIGINT)]))

    os.killpg(process.pid, signal.SIGINT)  # as the terminal does it

    output, errors = process.communicate()
    assert output == f"[{int(signal.SIGINT)}]\n"
    assert process.returncode == 5
    assert "Traceback" not in errors


def test_under_nohup_a_hangup_stays_ignored(tmp_path):
    asking = "import signal; print(signal.getsignal(signal.SIGHUP), signal.getsignal(signal.SIGINT))"
    alone = f"trap '' HUP; exec {sys.executable} -c '{asking}'"
    seen = f"trap '' HUP; exec {' '.join(NANDOCTOR)} record -- {sys.executable} -c '{asking}'"
    assert plain(["sh", "-c", seen], tmp_path).stdout == plain(["sh", "-c", alone], tmp_path).stdout
