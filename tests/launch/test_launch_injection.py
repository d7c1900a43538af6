"""What recording/inject does in a Python of the command, before and without a training."""

import os
import shutil
import sys
from pathlib import Path

import pytest

from nandoctor.launch.environment import INJECT
from tests.launch.commands import plain, recorded, with_path

OTHERS = filter(None, map(shutil.which, [f"python3.{minor}" for minor in range(10, 16)]))
PYTHONS = [sys.executable, *(one for one in OTHERS if plain([one, "-c", "pass"], Path()).returncode == 0)]
TORCH_LIKE = "import sys\nsys.stdout.write('torch runs\\n')\n"


@pytest.fixture(params=PYTHONS)
def python(request):
    return request.param


def write_torch(folder, text=TORCH_LIKE):
    (folder / "torch").mkdir(parents=True)
    (folder / "torch" / "__init__.py").write_text(text)
    return folder


@pytest.mark.parametrize("text", ["import sys; sys.stderr.write(__name__ + ' ran')", "raise ValueError('boom')"])
def test_another_sitecustomize_still_runs(tmp_path, python, text):
    (tmp_path / "sitecustomize.py").write_text(text + "\n")
    command = [python, "-c", "import sys; print(getattr(sys.modules.get('sitecustomize'), '__file__', None))"]

    alone = plain(command, tmp_path, env=with_path(tmp_path))
    seen = recorded(command, tmp_path, env=with_path(tmp_path))

    assert seen.stdout == alone.stdout
    assert alone.stderr and seen.stderr.startswith(alone.stderr)


def test_a_torch_that_fails_to_import_fails_with_the_same_words(tmp_path, python):
    broken = write_torch(tmp_path / "broken", "def load():\n    raise ImportError('no libtorch.so')\nload()\n")
    command = [python, "-c", "import torch"]

    alone = plain(command, tmp_path, env=with_path(broken))
    seen = recorded(command, tmp_path, env=with_path(broken))

    assert b"no libtorch.so" in alone.stderr
    assert seen.stderr.startswith(alone.stderr)
    assert seen.returncode == alone.returncode == 1


def test_torch_keeps_its_loader_and_a_failed_start_is_told_in_one_line(tmp_path, python):
    empty = write_torch(tmp_path / "empty")  # the recording half finds no torch.nn in it
    program = (
        "import importlib.util as u, sys; u.find_spec('torch'); u.find_spec('torch'); import torch\n"
        "print(vars(torch.__loader__), torch.__spec__.loader is torch.__loader__)\n"
        "print([finder for finder in sys.meta_path if type(finder).__module__ == 'sitecustomize'])"
    )
    command = [python, "-c", program]

    alone = plain(command, tmp_path, env=with_path(empty))
    seen = recorded(command, tmp_path, env=with_path(empty))

    assert seen.stdout == alone.stdout
    assert seen.returncode == 0
    child, *parent = seen.stderr.decode().splitlines()
    assert child.startswith("nandoctor: could not start recording: ImportError: ")
    assert child.removeprefix("nandoctor: ") in parent[0]


def test_a_torch_found_only_later_is_still_seen(tmp_path):
    late = write_torch(tmp_path / "late")
    program = (
        "import sys\ntry:\n    import torch\nexcept ImportError:\n    print('not yet')\n"
        f"sys.path.insert(0, {str(late)!r}); import torch"
    )
    seen = recorded([sys._base_executable, "-S", "-c", "import site; site.main()\n" + program], tmp_path)
    assert seen.stdout.splitlines()[-1] == b"torch runs"
    assert b"could not start recording" in seen.stderr


def test_nothing_of_nandoctors_environment_becomes_importable(tmp_path):
    program = (
        "import importlib.util as u\n"
        "names = ('nandoctor', '_nandoctor', 'pyarrow', 'typer', 'rich', 'recording', 'trace', 'arm')\n"
        "def found(name):\n    try: return u.find_spec(name)\n    except ImportError: return None\n"
        "print([found(name) is not None for name in names])"
    )
    command = [sys._base_executable, "-c", program]
    assert recorded(command, tmp_path).stdout == plain(command, tmp_path).stdout


@pytest.mark.parametrize(
    ("options", "words"),
    [
        pytest.param(["-c", "pass"], "never imported torch", id="no torch"),
        pytest.param(["-I", "-c", "pass"], "python -I", id="isolated"),
        pytest.param(["-E", "-c", "pass"], "python -I", id="environment ignored"),
        pytest.param(["-S", "-c", "pass"], "python -I", id="no site"),
        pytest.param(["-P", "-c", "pass"], "never imported torch", id="safe path"),
    ],
)
def test_where_nothing_was_recorded_the_reason_is_said(tmp_path, options, words):
    if "-P" in options and sys.version_info < (3, 11):
        pytest.skip("Python 3.10 has no -P")
    seen = recorded([sys.executable, *options], tmp_path)

    assert words in seen.stderr.decode()
    assert seen.returncode == 0
    assert os.listdir(tmp_path) == []


def test_a_recording_inside_a_recording_does_not_pile_up_paths(tmp_path):
    program = "import os; print(os.environ['PYTHONPATH'])"
    inner = [sys.executable, "-m", "nandoctor", "record", "--", sys.executable, "-c", program]
    seen = recorded(inner, tmp_path, env=with_path(tmp_path))
    assert seen.stdout.decode().strip() == f"{INJECT}:{tmp_path}"
