"""Mistakes a user can make with two recordings: `nandoctor diagnose A B`."""

from nandoctor.errors import UserError

TWICE = "nandoctor record -o a.parquet -- python train.py; nandoctor record -o b.parquet -- python train.py"


def same_recording(a: str, b: str) -> UserError:
    return UserError(
        title="THE SAME RECORDING TWICE",
        happened=f"{a} and {b} hold one and the same run.",
        why="A run agrees with itself; whether it is reproducible shows in a second recording of the command.",
        try_this=TWICE,
    )


def too_short(path: str, steps: int, least: int) -> UserError:
    return UserError(
        title="TOO SHORT TO COMPARE",
        happened=f"{path} holds {steps} training step{'' if steps == 1 else 's'}; I need {least} to compare.",
        why="Where two runs part says something only if steps before it agree.",
        try_this=f"nandoctor diagnose {path}",
    )


def other_program(a: str, b: str, difference: str) -> UserError:
    return UserError(
        title="TWO DIFFERENT PROGRAMS",
        happened=f"{a} and {b} do not train the same model: {difference}.",
        why="Only two recordings of one command can say whether it is reproducible.",
        try_this=TWICE,
    )


def two_logs(a: str, b: str) -> UserError:
    return UserError(
        title="TWO LOGS",
        happened=f"{a} and {b} are both logs.",
        why="Whether a failure comes again shows in a recording beside a log, or in two recordings.",
        try_this=f"nandoctor record -- COMMAND; nandoctor diagnose {a} run.parquet",
    )
