"""Births in whole scripts of their own: what the line map never saw, and what ends a run before its first backward.

births_in_scripts.txt holds the scripts. `### name; phase; layer; op; step`: "-" is null, "." the root module, "*" is
not asked; a line that ends in `#!` is right.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from nandoctor.notebook import diagnose

HEAD = "import torch\nimport torch.nn as nn\nimport torch.nn.functional as F\n\ntorch.manual_seed(0)\n"
SCRIPTS = {
    part.partition(";")[0]: part
    for part in (Path(__file__).parent / "births_in_scripts.txt").read_text().split("### ")[1:]
}


def meant(word: str) -> str | None:
    return {"-": None, ".": ""}.get(word, word)


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_birth_is_named(name, tmp_path):
    head, _, body = SCRIPTS[name].partition("\n")
    _, phase, layer, op, step = (field.strip() for field in head.split(";"))
    program = HEAD + body
    lines = [number for number, line in enumerate(program.splitlines(), 1) if line.endswith("#!")]
    (tmp_path / "train.py").write_text(program.replace("  #!", ""))
    command = [sys.executable, "-m", "nandoctor", "record", "--quiet", "-o", "run.parquet", "--", sys.executable]
    subprocess.run([*command, "train.py"], cwd=tmp_path, capture_output=True, check=False)
    found = diagnose(str(tmp_path / "run.parquet"))
    first = found.first_nonfinite
    if phase == "healthy":
        assert found.verdict == "healthy" and first is None
        return
    assert first is not None
    assert (first.step, first.phase) == (int(step), phase)
    assert layer == "*" or first.layer == meant(layer)
    assert op == "*" or first.op == meant(op)
    assert first.line in lines
