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
    "--policy": "--policy",
    "--treat": "--treat",
    "--max-actions": "--max-actions",
    "--ladder": "--ladder",
}
FLAGS = ("--probe", "--quiet", "--active")
OF_ACTIVE = ("--policy", "--treat", "--max-actions", "--ladder")


def read(arguments: Sequence[str], active: bool = False) -> Request | str:
    """What to record, or the path of the spool to recover. The arguments are those after `record`, or `treat`."""
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
    active = active or "--active" in flags
    for name in OF_ACTIVE:
        if name in values and not active:
            raise errors.bad_value(name, "it is about treating, and --active is not there")
    most = values.get("--max-actions")
    if most is not None and not most.isdecimal():
        raise errors.bad_value("--max-actions", f"{most!r} is no number of actions")
    return Request(
        active=active,
        policy=values.get("--policy", "repair"),
        treatments=tuple(name.strip() for name in values.get("--treat", "").split(",") if name.strip()),
        max_actions=None if most is None else int(most),
        ladder=values.get("--ladder", "measured"),
        command=command,
        output=values.get("--output", DEFAULT_OUTPUT),
        layers=values.get("--layers"),
        watch_step=None if step is None else int(step),
        quiet="--quiet" in flags,
        probe="--probe" in flags,
    )


def _split(word: str) -> tuple[str, str | None]:
    """--output=x and -ox as well as --output and -o."""
    if word.startswith("--"):
        name, equals, value = word.partition("=")
        return name, value if equals else None
    return word[:2], word[2:] or None
