"""A training in a venv of its own: no nandoctor there, another numpy than nandoctor's."""

import json
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import numpy
import pytest

from nandoctor.trace.open import open_trace
from tests.launch.commands import plain, recorded

OTHER_NUMPY = "2.1.3" if numpy.__version__ == "2.2.6" else "2.2.6"  # both exist for Python 3.10 to 3.13
NANDOCTORS = ("nandoctor", "numpy", "pandas", "pyarrow", "typer", "rich", "matplotlib", "_", "distutils")
TRAINING = """
import importlib.util, json, sys
import numpy, torch
torch.manual_seed(0)
model = torch.nn.Linear(2, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(3):
    optimizer.zero_grad()
    model(torch.ones(4, 2)).sum().backward()
    optimizer.step()
names = ("nandoctor", "pandas", "pyarrow", "typer", "rich")
foreign = [name for name in names if importlib.util.find_spec(name)]
loaded = sorted({name.split(".")[0] for name in sys.modules if "nandoctor" in name})
print(json.dumps([numpy.__version__, sys.prefix, foreign, loaded, model.weight.tolist()]))
"""


@pytest.fixture
def training_venv(tmp_path):
    """A venv that shares torch and what it needs with this one, by links, and has a numpy of its own."""
    home = tmp_path / "venv"
    venv.create(home, with_pip=False, symlinks=True)
    library = Path(sysconfig.get_path("purelib", vars={"base": str(home)}))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(library)]
    installed = subprocess.run([*pip, f"numpy=={OTHER_NUMPY}"], capture_output=True, text=True)
    if installed.returncode:
        pytest.skip(f"pip cannot install numpy {OTHER_NUMPY} here: {installed.stderr.strip()[-200:]}")
    for package in Path(sysconfig.get_path("purelib")).iterdir():
        if not package.name.startswith(NANDOCTORS) and not (library / package.name).exists():
            (library / package.name).symlink_to(package)
    return home


def test_the_training_keeps_its_own_numpy_and_sees_nothing_of_nandoctors(tmp_path, training_venv):
    (tmp_path / "train.py").write_text(TRAINING)
    command = [str(training_venv / "bin" / "python"), "train.py"]

    alone, seen = plain(command, tmp_path), recorded(command, tmp_path)

    assert alone.returncode == seen.returncode == 0, seen.stderr.decode()
    version, prefix, foreign, loaded, weights = json.loads(seen.stdout)
    assert version == OTHER_NUMPY != numpy.__version__
    assert Path(prefix) == training_venv
    assert foreign == [] and loaded == ["_nandoctor"]
    assert weights == json.loads(alone.stdout)[-1]
    trace = open_trace(tmp_path / "run.parquet")
    assert trace.steps == 3 and len(trace.rows("parameter_gradient")) > 0
