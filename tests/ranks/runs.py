"""Runs a program of tests/ranks/programs, plain or recorded, and hands out what it left behind."""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = Path(__file__).parent / "programs"
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
RECORD = (sys.executable, "-m", "nandoctor", "record")


@dataclass(frozen=True)
class Ran:
    folder: Path
    exit_code: int
    stdout: str
    stderr: str

    @property
    def said(self) -> list[str]:
        """nandoctor's own lines."""
        return [line for line in self.stderr.splitlines() if line.startswith("nandoctor: ")]

    def file(self, name: str) -> str:
        return (self.folder / name).read_text()


def ran(command: Sequence[str], folder: Path, recorded: bool, options: Sequence[str] = (), **variables: str) -> Ran:
    folder.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "SAID": str(folder / "said"), **variables}
    whole = [*RECORD, *options, "--", *command] if recorded else list(command)
    done = subprocess.run(whole, cwd=folder, env=environment, capture_output=True, text=True)
    return Ran(folder, done.returncode, done.stdout, done.stderr)
