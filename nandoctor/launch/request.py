"""What the user asked to be recorded, checked before anything is started."""

import contextlib
import os
import re
from dataclasses import dataclass, replace

from nandoctor import errors
from nandoctor.trace.spool import SUFFIX

DEFAULT_OUTPUT = "run.parquet"
POLICIES = ("repair", "skip", "advise")
LADDERS = ("measured", "documents")
TREATMENTS = (  # causes/treatments.py, which a recording's parent need not load; a test holds the two together
    "adaptive-clipping", "nonfinite-gradients", "nonfinite-weights", "loss-cap", "learning-rate", "warm-up",
    "amp-order", "attention-logits", "batchnorm", "data", "optimizer", "rollback", "accumulation", "operations",
    "initialization",
)  # fmt: skip
SHORTEST_TRIAL = 32  # characters of a name that nobody else has


@dataclass(frozen=True)
class Request:
    command: tuple[str, ...]
    output: str = DEFAULT_OUTPUT
    layers: str | None = None  # regular expression: record only these layers' tensors
    watch_step: int | None = None  # watch every operation around this step
    quiet: bool = False
    probe: bool = False  # extra forward passes in forked copies of the training
    budget: float = 3.0  # percent of the training's time; 0: everything at every step
    whole_steps: int = 100  # recorded whole before the budget counts
    max_size: int = 256 * 2**20  # bytes of the spool
    active: bool = False  # treat what is found while the training runs
    policy: str = "repair"  # of POLICIES
    treatments: tuple[str, ...] = ()  # that may be used; none named: all
    max_actions: int | None = None
    ladder: str = "measured"  # of LADDERS


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
    _check_treating(request)
    output = os.path.abspath(request.output)
    if os.path.isdir(output) or request.output.endswith(os.sep):
        raise errors.output_is_folder(request.output)
    folder = os.path.dirname(output)
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise errors.no_output_folder(folder, error.strerror or str(error)) from None
    _try_a_spool(output)
    return replace(request, output=output)


def _check_treating(request: Request) -> None:
    if request.policy not in POLICIES:
        raise errors.bad_value("--policy", f"{request.policy!r} is none of {', '.join(POLICIES)}")
    if request.ladder not in LADDERS:
        raise errors.bad_value("--ladder", f"{request.ladder!r} is none of {', '.join(LADDERS)}")
    if request.max_actions is not None and request.max_actions < 0:
        raise errors.bad_value("--max-actions", f"there are no {request.max_actions} actions")
    for name in request.treatments:
        if name not in TREATMENTS:
            raise errors.unknown_treatment(name, ", ".join(TREATMENTS))


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
