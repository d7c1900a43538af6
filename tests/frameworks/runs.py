"""Runs the programs of this folder: plain and recorded by the real commands, with the real packages."""

import json
import os
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import nandoctor
from tests import harness

PROGRAMS = Path(__file__).parent / "programs"


def program(name: str, **constants: object) -> str:
    """Its source without comments; `SICK = False` and the like set to other values."""
    source = (PROGRAMS / f"{name}.py").read_text(encoding="utf-8")
    if constants.pop("SICK", False):
        sick = source.replace("SICK = False", "SICK = True").replace(", False\n", ", True\n", 1)
        assert sick != source
        source = sick
    return harness.strip(source)


@lru_cache(maxsize=1)
def accelerate_launch() -> tuple[str, ...]:
    """The command as a user types it; as a module where the tests' Python has it from another environment."""
    script = Path(sys.executable).parent / "accelerate"
    typed = ("accelerate",) if script.exists() else ("python", "-m", "accelerate.commands.accelerate_cli")
    return (*typed, "launch", "--cpu", "--num_processes", "1", "--num_machines", "1", "--mixed_precision", "no",
            "--dynamo_backend", "no")  # fmt: skip


def frame(trace: Path) -> Any:
    """The rows, as pandas has them."""
    return nandoctor.read_trace(trace)


def names(rows: Any) -> set[str]:
    return {name for name in rows[rows.kind == "activation"].layer.unique() if name}


def execute(name: str, folder: Path, *arguments: str) -> dict[str, Any]:
    """A program that records by itself, in `folder`; what it printed as JSON in its last line."""
    root = Path(nandoctor.__file__).parents[1]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(root), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, str(PROGRAMS / f"{name}.py"), *arguments], cwd=folder, env=environment, capture_output=True,
        text=True, timeout=harness.TIMEOUT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    found["stderr"] = done.stderr
    return found
