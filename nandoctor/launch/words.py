"""What nandoctor says on stderr about a recording: two lines where it went well, else the reason."""

import os
import shlex
import sys
from collections.abc import Sequence

from nandoctor.errors import printable
from nandoctor.trace.spool import MARK

# files that recording/inject/sitecustomize.py leaves in the folder of marks
PYTHON_SEEN, TORCH_SEEN, FAILED = "python", "torch", "failed"

ISOLATED = (
    "nandoctor: nothing was recorded, no trace was written: no Python of this command loaded nandoctor.",
    "nandoctor: `python -I`, -E and -S switch off the way it comes in (PYTHONPATH); so does a command that "
    "replaces that variable, or that starts no Python.",
)
UNTOLD = "the recording failed in the training; its own line above says why."
NO_TORCH = (
    "nandoctor: nothing was recorded, no trace was written: the command ran Python but never imported torch.",
    "nandoctor: record the command that trains: nandoctor record -- python train.py",
)
NO_TRAINING = (
    "nandoctor: nothing was recorded, no trace was written: torch was imported, but no backward() "
    "and no optimizer.step() was called in it.",
    "nandoctor: a trace begins at the first of them; torch.autograd.grad with updates by hand is not recorded.",
)
EMPTY_BLOCK = (
    "nandoctor: nothing was recorded, no trace was written: "
    "no backward() and no optimizer.step() was called in the block."
)
RECORDED_ALREADY = "nandoctor: this process is recorded already; the block inside it writes no trace of its own."


def say(*lines: str) -> None:
    """Print to stderr; a stderr that is closed is no reason to lose the command's exit code."""
    try:
        for line in lines:
            print(printable(line), file=sys.stderr)
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):
        pass


def why_nothing(marks: str, folder: str) -> tuple[str, ...]:
    """Words for a command without a trace, from how far its processes came (see inject/sitecustomize.py)."""
    failed = os.path.join(marks, FAILED)
    if not os.path.isdir(folder):
        return (f"nandoctor: no trace was written: {near(folder)} was removed while the command ran.",)
    if os.path.exists(failed):
        with open(failed, encoding="utf-8", errors="replace") as file:
            reason = " ".join(file.read(500).split())
        return ("nandoctor: nothing was recorded, no trace was written: " + (reason or UNTOLD),)
    if os.path.exists(os.path.join(marks, TORCH_SEEN)):
        return NO_TRAINING
    return NO_TORCH if os.path.exists(os.path.join(marks, PYTHON_SEEN)) else ISOLATED


def wrote(outputs: Sequence[str]) -> list[str]:
    """What was written, a line for each training, and the next command to run: on the newest one."""
    trainings: dict[str, int] = {}  # a trace, or a folder of ranks -> ranks
    for output in outputs:
        folder = os.path.dirname(output)
        ranks = os.path.isfile(os.path.join(folder, MARK))
        where = folder if ranks else output
        trainings[where] = trainings.get(where, 0) + ranks
    lines = [f"nandoctor: wrote {near(path)}{f', {count} ranks' if count else ''}" for path, count in trainings.items()]
    return [*lines, f"nandoctor: next: nandoctor diagnose {shlex.quote(near(list(trainings)[-1]))}"]


def wrote_here(output: str) -> list[str]:
    """The same for a block of code: the next line is Python."""
    return [f"nandoctor: wrote {near(output)}", f"nandoctor: next: nandoctor.diagnose({near(output)!r})"]


def still_recording(spool: str, pid: object) -> str:
    return (
        f"nandoctor: process {pid} still records into {near(spool)}; when it has ended: "
        f"nandoctor record --recover {shlex.quote(near(spool))}"
    )


def unfinished(spool: str, reason: str) -> str:
    return (
        f"nandoctor: could not turn {near(spool)} into a trace: {reason}; it is kept, try again with: "
        f"nandoctor record --recover {shlex.quote(near(spool))}"
    )


def near(path: str) -> str:
    """The path as a person would type it here."""
    try:
        short = os.path.relpath(path)
    except ValueError:  # another drive of Windows
        return path
    return path if short.startswith(os.pardir) else short
