"""Runs `nandoctor record` for the tests, and a program that records without torch, whose import is slow."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Done = subprocess.CompletedProcess[bytes]
NANDOCTOR = (sys.executable, "-m", "nandoctor")

# what nandoctor/recording does to a spool, by a process that `nandoctor record` started
SPOOLING = """
import os, sys, time
from nandoctor.trace.schema import KIND, NO_SHAPE, ROW
from nandoctor.trace.spool import SpoolWriter, free_output
writer = SpoolWriter(free_output(os.environ["NANDOCTOR_OUTPUT"]))
writer.note("header", version=1, session=os.environ["NANDOCTOR_SESSION"], pid=os.getpid())
writer.note("subject", id=0, name="optimizer", role="optimizer")
def steps(count):
    for step in range(count):
        writer.rows(ROW.pack(step, 0, NO_SHAPE, 0, KIND["step"], 0, 0, 0, 0.0, 0.0, 1.0))
"""


def plain(command: Sequence[str], folder: Path, **options: Any) -> Done:
    return subprocess.run(command, cwd=folder, capture_output=True, **options)


def nandoctor(*arguments: str, folder: Path, **options: Any) -> Done:
    return plain([*NANDOCTOR, *arguments], folder, **options)


def recorded(command: Sequence[str], folder: Path, **options: Any) -> Done:
    return nandoctor("record", "--", *command, folder=folder, **options)


def spooling(rest: str) -> tuple[str, ...]:
    """A command that records and then does the rest."""
    return (sys.executable, "-c", SPOOLING + rest)


def with_path(*folders: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(str(folder) for folder in folders)}
