"""Reads the arguments of `nandoctor record` without typer, whose import would delay every recording by 60 ms.

`nandoctor record --help` is typer's, from cli/record.py; a test holds the two together.
"""

import shlex
from collections.abc import Sequence

from nandoctor import errors
from nandoctor.launch.request import DEFAULT_OUTPUT, Request

WITH_VALUE = {
    "-o": "--output",
    "--output": "--output",
    "--layers": "--layers",
    "--watch-step": "--watch-step",
    "--recover": "--recover",
}
FLAGS = ("--eager", "--probe", "--quiet")


def read(arguments: Sequence[str]) -> Request | str:
    """What to record, or the path of the spool to recover. The arguments are those after `record`."""
    values: dict[str, str] = {}
    flags: set[str] = set()
    command: tuple[str, ...] = ()
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if word == "--":
            command = tuple(rest)
            break
        if not word.startswith("-") or word == "-":
            raise errors.no_separator(word, shlex.join([word, *rest]))
        if word in FLAGS:
            flags.add(word)
            continue
        name, value = _split(word)
        if name not in WITH_VALUE:
            raise errors.unknown_option(name)
        if value is None:
            if not rest or rest[0] == "--":
                raise errors.bad_value(name, "a value should follow it")
            value = rest.pop(0)
        values[WITH_VALUE[name]] = value
    if "--recover" in values:
        return values["--recover"]
    step = values.get("--watch-step")
    if step is not None and not step.isdecimal():
        raise errors.bad_value("--watch-step", f"{step!r} is not the number of a step")
    return Request(
        command=command,
        output=values.get("--output", DEFAULT_OUTPUT),
        layers=values.get("--layers"),
        watch_step=None if step is None else int(step),
        quiet="--quiet" in flags,
        probe="--probe" in flags,
        eager="--eager" in flags,
    )


def _split(word: str) -> tuple[str, str | None]:
    """--output=x and -ox as well as --output and -o."""
    if word.startswith("--"):
        name, equals, value = word.partition("=")
        return name, value if equals else None
    return word[:2], word[2:] or None
