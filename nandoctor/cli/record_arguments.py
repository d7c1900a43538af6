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
    "--budget": "--budget",
    "--whole-steps": "--whole-steps",
    "--max-size": "--max-size",
    "--policy": "--policy",
    "--treat": "--treat",
    "--max-actions": "--max-actions",
    "--ladder": "--ladder",
}
BUDGET, WHOLE_STEPS, MAX_SIZE = Request.budget, Request.whole_steps, "256M"
UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}
SMALLEST = 2**20  # bytes: the notes of a run and its first steps
FLAGS = ("--active", "--eager", "--probe", "--quiet")
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
        eager="--eager" in flags,
        budget=_percent(values.get("--budget", str(BUDGET))),
        whole_steps=_count("--whole-steps", values.get("--whole-steps", str(WHOLE_STEPS))),
        max_size=size(values.get("--max-size", MAX_SIZE)),
    )


def size(text: str) -> int:
    """Bytes of 64M, 1.5GiB, 100000. UserError for anything else, and for less than a run needs."""
    number, unit = text.strip().upper().removesuffix("B").removesuffix("I"), ""
    if number[-1:] in UNITS:
        number, unit = number[:-1], number[-1:]
    try:
        found = int(float(number) * UNITS[unit])
    except (ValueError, OverflowError):
        raise errors.bad_value("--max-size", f"{text!r} is not a size such as 64M or 1G") from None
    if found < SMALLEST:
        raise errors.bad_value("--max-size", f"{text!r} is less than the 1M that a short run needs")
    return found


def _percent(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0 <= found <= 100:
        raise errors.bad_value("--budget", f"{text!r} is not a percentage between 0 and 100")
    return found


def _count(name: str, text: str) -> int:
    if not text.isdecimal():
        raise errors.bad_value(name, f"{text!r} is not a number of steps")
    return int(text)


def _split(word: str) -> tuple[str, str | None]:
    """--output=x and -ox as well as --output and -o."""
    if word.startswith("--"):
        name, equals, value = word.partition("=")
        return name, value if equals else None
    return word[:2], word[2:] or None
