"""How a program is written, read from its trace."""

import pytest

from nandoctor.evidence import style
from nandoctor.evidence.style import Style
from tests.builders import Run, run


def read(made: Run, **header: object) -> Style:
    made.notes[0].update(header)
    return style.gather(made.trace())


def optimizer(name: str, *groups: dict[str, object]) -> dict[str, object]:
    return {"note": "optimizer", "id": 7, "name": name, "class": name, "groups": list(groups), "step": 0}


def with_optimizer(name: str, *groups: dict[str, object]) -> Style:
    made = run(steps=3)
    made.notes = [note for note in made.notes if note["note"] != "optimizer"] + [optimizer(name, *groups)]
    return style.gather(made.trace())


def test_the_optimizer_is_written_with_what_differs_from_its_defaults():
    found = with_optimizer("torch.optim.sgd.SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0})
    assert (found.constructor, found.arguments) == ("torch.optim.SGD", ", momentum=0.9, nesterov=True")
    found = with_optimizer("torch.optim.adamw.AdamW", {"betas": [0.9, 0.95], "eps": 1e-8, "weight_decay": 0.01}, {})
    assert (found.constructor, found.arguments, found.groups) == ("torch.optim.AdamW", ", betas=(0.9, 0.95)", 2)


def test_arguments_of_a_strange_trace_are_numbers_or_nothing():
    found = with_optimizer("x\x1b[31m", {"momentum": "0.9); import os", "betas": [[1], "a"], "eps": 1e-4})
    assert (found.constructor, found.arguments) == ("", ", eps=0.0001")


@pytest.mark.parametrize("command, planned", [
    (["python", "train.py", "--epochs", "50"], 50), (["python", "train.py", "--num_train_epochs=3"], 3),
    (["python", "train.py", "--max-epochs", "x"], None), (["python", "epochs.py", "50"], None),
])  # fmt: skip
def test_the_length_of_a_run_that_was_cut_is_told_by_its_command(command: list[str], planned: int | None):
    found = read(run(steps=25, epoch_length=10, exit_code=1), command=command)
    assert found.epochs == planned and found.epoch_steps == 10
    assert found.total == (None if planned is None else 10 * planned)


def test_a_run_that_ended_by_itself_was_as_long_as_it_was():
    found = read(run(steps=30, epoch_length=10))
    assert (found.epochs, found.epoch_steps, found.total) == (3, 10, 30)


def test_a_run_that_left_its_loop_at_the_first_nan_was_meant_to_be_longer():
    incident = {"note": "incident", "step": 4, "phase": "loss", "alarm": "loss", "kind": "nan"}
    assert read(run(steps=5, notes=[incident])).total is None
    assert read(run(steps=40, notes=[incident])).total == 40


def test_a_rate_that_rises_first_is_a_warm_up_and_two_groups_are_no_schedule():
    rising = read(run(lr="0.01 0.02 0.05 0.1 0.1 0.08"))
    assert (rising.warm_up, rising.schedule) == (3, True)
    made = run(lr=0.1, steps=4)
    for _ in range(4):
        made.row("learning_rate", "optimizer.1", "optimizer", value=0.01)
    assert (read(made).warm_up, read(made).schedule) == (0, False)


def test_a_nan_that_reached_backward_was_not_guarded():
    incident = {"note": "incident", "step": 2, "phase": "loss", "alarm": "loss", "kind": "nan"}
    assert read(run(loss="2 2 nan", notes=[incident])).guarded is False
    assert read(run(loss="2 2 2", notes=[incident])).guarded is True
    assert read(run(loss="2 2 2")).guarded is None


def test_the_batch_size_is_told_where_the_tensors_of_a_batch_agree_about_it():
    assert read(run(steps=3, batch=1.0, shape=(32, 10))).batch == 32
    made = run(steps=3, batch=1.0, shape=(50, 32, 10))  # a sequence first, then the batch
    made.row("labels", "1", "batch", shape=(32,))
    assert read(made).batch is None
    assert read(run(steps=3)).batch is None


def test_unscale_of_the_program_is_told_from_that_of_scaler_step():
    for calls, own in (
        (("scale", "step", "unscale_", "update"), False),
        (("scale", "unscale_", "step", "update"), True),
    ):
        made = run(steps=2)
        for name in calls * 3:
            made.row("scaler", name, "call", value=65536.0)
        assert read(made).unscales is own and read(made).scaler


def test_packages_are_told_by_the_header_the_command_or_the_files_of_the_trace():
    library = {"note": "incident", "step": 1, "place": {"library_file": "/env/lib/accelerate/utils/operations.py"}}
    frames = {"note": "exception", "type": "E", "frames": [["/env/lightning/pytorch/trainer/call.py", 1, "f", ""]]}
    assert read(run(), command=["accelerate", "launch", "train.py"]).accelerate
    assert read(run(notes=[library])).accelerate
    assert read(run(notes=[frames])).lightning
    assert read(run(), packages=["transformers.trainer"]).hf_trainer
    plain = read(run(), command=["python", "accelerate_it.py"])
    assert not (plain.accelerate or plain.lightning or plain.hf_trainer)


def test_checkpoints_that_were_saved_are_counted():
    made = run(steps=2)
    made.row("checkpoint", "save", "call", value=1.0)
    made.row("checkpoint", "load", "call", value=1.0)
    assert read(made).saves == 1


def test_the_variable_of_the_only_model_is_named():
    def model(name: str) -> dict[str, object]:
        return {"note": "model", "name": name, "tree": [], "parameters": [["w", [2, 2], "float32"]]}

    assert read(run(notes=[model("net")])).model == "net"
    assert read(run(notes=[model("net"), model("critic")])).model == "model"
    assert read(run(notes=[model("x y\x1b")])).model == "model"
