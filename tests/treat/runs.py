"""Runs one of programs.py plain in this process, or under `nandoctor treat` in its own."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from nandoctor.evidence.treated import Action, gather
from nandoctor.trace.open import open_trace

PROGRAMS = Path(__file__).with_name("programs.py")


@dataclass(frozen=True)
class Treated:
    loss: float
    said: list[str]  # nandoctor's lines about steps
    actions: tuple[Action, ...]
    trace: Path
    exit_code: int
    stderr: str

    def events(self, event: str) -> list[str]:
        """Treatments of these events, in order."""
        return [action.treatment for action in self.actions if action.event == event]


def treated(folder: Path, name: str, *options: str, sick: bool = True, program: str | None = None) -> Treated:
    """The program under `nandoctor treat`; `program`: its text, where it is not the file of the suite."""
    (folder / "programs.py").write_text(program or PROGRAMS.read_text(encoding="utf-8"), encoding="utf-8")
    trace = folder / "run.parquet"
    trace.unlink(missing_ok=True)
    command = [sys.executable, "-m", "nandoctor", "treat", *options, "-o", str(trace), "--", sys.executable]
    done = subprocess.run(
        [*command, "programs.py", name, "sick" if sick else "well"], cwd=folder, capture_output=True, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    said = [line for line in done.stderr.splitlines() if line.startswith("nandoctor: step ")]
    assert "probe failed" not in done.stderr, done.stderr
    loss = float(done.stdout.split()[-1]) if done.stdout.split() else float("nan")
    return Treated(loss, said, gather(open_trace(trace)), trace, done.returncode, done.stderr)
