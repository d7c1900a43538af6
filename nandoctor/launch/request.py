"""What the user asked to be recorded, checked before anything is started."""

import contextlib
import os
import re
from dataclasses import dataclass, replace

from nandoctor import errors
from nandoctor.trace.spool import MARK, SUFFIX

DEFAULT_OUTPUT = "run.parquet"
SHORTEST_TRIAL = 32  # characters of a name that nobody else has


@dataclass(frozen=True)
class Request:
    command: tuple[str, ...]
    output: str = DEFAULT_OUTPUT
    layers: str | None = None  # regular expression: record only these layers' tensors
    watch_step: int | None = None  # watch every operation around this step
    quiet: bool = False
    probe: bool = False  # extra forward passes in forked copies of the training
    eager: bool = False  # torch.compile compiles nothing
    budget: float = 3.0  # percent of the training's time; 0: everything at every step
    whole_steps: int = 100  # recorded whole before the budget counts
    max_size: int = 256 * 2**20  # bytes of the spool


def checked(request: Request) -> Request:
    """The same request with an absolute output in a folder that can be written; UserError otherwise."""
    if not request.command:
        raise errors.no_command()
    if request.layers is not None:
        try:
            re.compile(request.layers)
        except re.error as error:
            raise errors.bad_pattern(request.layers, str(error)) from None
    if request.watch_step is not None and request.watch_step < 0:
        raise errors.bad_value("--watch-step", f"there is no step {request.watch_step}")
    output = os.path.abspath(request.output)
    ranks = os.path.isfile(os.path.join(output, MARK))  # of an earlier run: this one takes the next name
    if (os.path.isdir(output) and not ranks) or request.output.endswith(os.sep):
        raise errors.output_is_folder(request.output)
    folder = os.path.dirname(output)
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise errors.no_output_folder(folder, error.strerror or str(error)) from None
    _try_a_spool(output)
    return replace(request, output=output)


def _try_a_spool(output: str) -> None:
    """Make and remove a folder as the recording will: access rights alone say nothing of /proc, quotas, names."""
    folder, name = os.path.split(output + SUFFIX)
    length = max(len(os.fsencode(name)), SHORTEST_TRIAL)  # a name too long for the disk is refused now
    trial = os.path.join(folder, (".nandoctor-" + os.urandom(length).hex())[:length])
    try:
        os.mkdir(trial)
    except FileNotFoundError:
        raise errors.no_output_folder(folder, "no folder can be made there") from None
    except OSError as error:
        raise errors.no_output_folder(folder, error.strerror or str(error)) from None
    with contextlib.suppress(OSError):  # it is empty, hidden and in nobody's way
        os.rmdir(trial)
