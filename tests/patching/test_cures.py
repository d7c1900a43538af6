"""Each kind of fault: the program fails, what `diagnose --patch` prints applies, and the changed program trains."""

import contextlib
import io
import math
import os
import runpy
import subprocess
import sys

import pytest

from nandoctor.notebook import diagnose
from nandoctor.patching.patch import diff, edited
from tests.patching.sick_scripts import SCRIPTS

ENOUGH = 0.3  # of the loss: every one of these programs gets below it where it is sound


def learned(code, said):
    last = said.split()[-1] if said.split() else "nan"
    try:
        loss = float(last)
    except ValueError:
        return False
    return code == 0 and math.isfinite(loss) and loss < ENOUGH


def here(script, monkeypatch):
    """In this process, which has torch loaded."""
    said = io.StringIO()
    monkeypatch.chdir(script.parent)
    monkeypatch.setattr(sys, "argv", [str(script)])
    with contextlib.redirect_stdout(said):
        runpy.run_path(str(script), run_name="__main__")
    return said.getvalue()


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_changed_program_trains(name, tmp_path, monkeypatch):
    script = tmp_path / "train.py"
    script.write_text(SCRIPTS[name], encoding="utf-8")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "nandoctor", "record", "--", sys.executable, "train.py"]
    sick = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert not learned(sick.returncode, sick.stdout)

    found = diagnose(tmp_path / "run.parquet")
    assert found.verdict == name.split()[0]
    sources, _ = edited(found, tmp_path)
    assert diff(sources[0]).startswith("--- train.py\n+++ train.py\n")
    script.write_text("\n".join(sources[0].changed()) + "\n", encoding="utf-8")

    assert learned(0, here(script, monkeypatch))
