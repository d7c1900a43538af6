"""What can be wrong with a log, in words."""

from nandoctor.errors import UserError

RECORD = "nandoctor record -- python train.py"
TAKEN = (
    "I read traces of `nandoctor record`, text logs, histories in CSV, trainer_state.json, Lightning's metrics.csv and "
    "TensorBoard event files."
)


def unreadable_log(path: str, reason: str) -> UserError:
    return UserError(
        title="CANNOT READ THIS LOG",
        happened=f"I cannot read {path}: {reason}.",
        why=TAKEN,
        try_this=RECORD,
    )


def no_loss_in_it(path: str, kind: str) -> UserError:
    return UserError(
        title="NO TRAINING IN IT",
        happened=f"I read {path} as {kind} and found no loss, no gradient norm and no warning that I know.",
        why=f"{TAKEN} A line like `epoch 3 loss: 0.5` is enough.",
        try_this=RECORD,
    )


def too_large(path: str, megabytes: int, most: int) -> UserError:
    return UserError(
        title="THE LOG IS TOO LARGE",
        happened=f"{path} has {megabytes} MB; I read logs of up to {most} MB.",
        why="What tells the cause stands around the first NaN, or at the end.",
        try_this=f"tail -n 100000 {path} > end.log; nandoctor diagnose end.log",
    )


def no_tensorboard(path: str) -> UserError:
    return UserError(
        title="TENSORBOARD IS MISSING",
        happened=f"{path} is a TensorBoard event file, and the package tensorboard is not installed here.",
        why="Only that package reads its format; nandoctor does not install it by itself.",
        try_this="pip install 'nandoctor[tensorboard]'",
    )
