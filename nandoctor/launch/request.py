"""What the user asked to be recorded, checked before anything is started."""

import os
import re
from dataclasses import dataclass

from nandoctor import errors

DEFAULT_OUTPUT = "run.parquet"


@dataclass(frozen=True)
class Request:
    command: tuple[str, ...]
    output: str = DEFAULT_OUTPUT
    layers: str | None = None  # regular expression: record only these layers' tensors
    watch_step: int | None = None  # watch every operation around this step
    quiet: bool = False


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
    if os.path.isdir(output) or request.output.endswith(os.sep):
        raise errors.output_is_folder(request.output)
    folder = os.path.dirname(output)
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise errors.no_output_folder(folder, error.strerror or str(error)) from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise errors.no_output_folder(folder, "it may not be written")
    return Request(request.command, output, request.layers, request.watch_step, request.quiet)
