"""A recorded command is the command: streams, exit code, descriptors, sys.path, modules."""

import os
import sys

import pytest

from tests.launch.commands import plain, recorded, with_path

TALKING = """
import sys
data = sys.stdin.buffer.read()
sys.stdout.buffer.write(data[::-1])
sys.stdout.flush()
sys.stderr.write("to stderr")
sys.exit(3)
"""
SELF_PORTRAIT = """
import os, sys
print(sys.path, sys.argv, __name__, sorted(sys.modules), sorted(sys.path_importer_cache), sys.flags)
print(sorted(name for name in os.environ if not name.startswith("NANDOCTOR_")))
"""


def test_streams_and_exit_code_are_those_of_the_command(tmp_path):
    command = [sys.executable, "-c", TALKING]
    data = bytes(range(256)) * 500

    alone, seen = plain(command, tmp_path, input=data), recorded(command, tmp_path, input=data)

    assert seen.stdout == alone.stdout == data[::-1]
    assert seen.stderr.startswith(alone.stderr)
    assert seen.returncode == alone.returncode == 3


def test_a_command_killed_by_a_signal_exits_as_in_a_shell(tmp_path):
    seen = recorded([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"], tmp_path)
    assert seen.returncode == 128 + 9


@pytest.mark.parametrize("way", [["-c", SELF_PORTRAIT], ["portrait.py", "--help"], ["-m", "portrait", "-x"]])
def test_the_command_sees_the_same_python(tmp_path, way):
    (tmp_path / "portrait.py").write_text(SELF_PORTRAIT)
    environment = with_path(tmp_path / "one", tmp_path)

    alone = plain([sys.executable, *way], tmp_path, env=environment)
    seen = recorded([sys.executable, *way], tmp_path, env=environment)

    assert alone.returncode == 0, alone.stderr
    assert seen.stdout == alone.stdout


def test_open_descriptors_are_handed_on(tmp_path):
    reading, writing = os.pipe()
    try:
        command = [sys.executable, "-c", f"import os; os.write({writing}, b'through')"]
        assert recorded(command, tmp_path, pass_fds=[writing]).returncode == 0
        assert os.read(reading, 100) == b"through"
    finally:
        os.close(reading)
        os.close(writing)


def test_a_closed_stderr_does_not_cost_the_exit_code(tmp_path):
    command = f"exec 2>&-; {sys.executable} -m nandoctor record -- sh -c 'exit 7'"
    assert plain(["sh", "-c", command], tmp_path).returncode == 7


def test_a_help_flag_behind_the_dashes_is_the_commands(tmp_path):
    seen = recorded([sys.executable, "-c", "import sys; print(sys.argv)", "--help"], tmp_path)
    assert seen.stdout == b"['-c', '--help']\n"
