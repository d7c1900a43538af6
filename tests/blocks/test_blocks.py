"""`with nandoctor.record(...)`: a part of a process that runs already."""

import os
import subprocess
import sys
import traceback
import types

import pytest
import torch
from torch import nn
from torch.nn.modules import module as modules
from torch.optim import optimizer as optimizers

import nandoctor
from nandoctor.errors import UserError

PROGRAM = """
import torch, nandoctor
net = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
with nandoctor.record("inner.parquet") as recording:
    for _ in range(3):
        optimizer.zero_grad()
        net(torch.ones(2, 4)).sum().backward()
        optimizer.step()
print(recording.path)
"""


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(4, 8)
        self.head = nn.Linear(8, 1)

    def forward(self, x, divisor=None):
        hidden = self.encoder(x).relu()
        if divisor is not None:
            hidden = hidden / divisor
        return self.head(hidden)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def train(net, steps=6, bad_from=None, lr=0.01):
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.SGD(net.parameters(), lr=lr)
    for step in range(steps):
        divisor = torch.full((8,), 0.0 if step == bad_from else 1.0)
        loss = net(torch.rand(16, 4, generator=generator), divisor).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def torch_now():
    """Everything of torch that a recording may touch."""
    registries = {
        f"{owner.__name__}.{name}": list(held)
        for owner in (modules, optimizers)
        for name in dir(owner)
        if name.startswith("_global_") and isinstance(held := getattr(owner, name), dict)
    }
    places = [torch, torch.autograd, torch.nn.utils, torch.nn.utils.clip_grad, torch.serialization, modules]
    classes = [torch.Tensor, torch.optim.Optimizer, nn.Module, torch.amp.GradScaler,
               torch.utils.data.dataloader._BaseDataLoaderIter]  # fmt: skip
    return (
        registries,
        [type(place) for place in places],
        [{name: id(value) for name, value in vars(place).items()} for place in places],
        [{name: id(value) for name, value in vars(owner).items() if not name.startswith("_abc")} for owner in classes],
        torch._C._len_torch_function_stack(),
    )


def test_a_training_that_runs_already_is_recorded(here):
    net = Net()
    train(net, 3)
    with nandoctor.record("run.parquet", quiet=True) as recording:
        train(net, 6)
    assert recording.path == str(here / "run.parquet")
    found = nandoctor.diagnose("run.parquet")
    assert (found.verdict, found.run.steps, found.run.exit_code) == ("healthy", 6, 0)
    assert not list(here.glob("*.spool"))


def test_the_birth_of_a_nan_is_named_as_under_record(here):
    with nandoctor.record(quiet=True):
        train(Net(), 8, bad_from=5)
    found = nandoctor.diagnose()  # the newest trace here
    first = found.first_nonfinite
    assert (found.verdict, first.step, first.layer, first.op) == ("unsafe-op", 5, "", "div")
    assert first.text == "hidden = hidden / divisor" and first.file.endswith("test_blocks.py")


def test_nothing_stays_in_torch(here):
    with nandoctor.record(quiet=True):  # what torch itself sets up at a first training is there now
        train(Net())
    before = torch_now()
    with nandoctor.record(quiet=True, watch_step=2):
        train(Net())
        assert torch_now() != before
    assert torch_now() == before
    with pytest.raises(ValueError), nandoctor.record(quiet=True):
        train(Net(), 2)
        raise ValueError
    assert torch_now() == before


def test_what_the_program_puts_into_torch_meanwhile_stays(here, monkeypatch):
    monkeypatch.setattr(torch, "save", torch.save)
    monkeypatch.setattr(torch, "isnan", torch.isnan)

    def save(*_):
        return "saved"

    with nandoctor.record(quiet=True):
        train(Net(), 2)
        torch.save = save
        torch.isnan = save
    assert torch.save is save and torch.isnan is save and type(torch) is types.ModuleType


def test_the_training_stays_as_it_was(here):
    results = []
    for watched in (False, True):
        torch.manual_seed(3)
        net = Net()
        if watched:
            with nandoctor.record(quiet=True):
                train(net)
        else:
            train(net)
        results.append(([p.detach().clone() for p in net.parameters()], torch.get_rng_state()))
    (plain, state), (recorded, after) = results
    assert all(map(torch.equal, plain, recorded)) and torch.equal(state, after)


def test_several_blocks_give_several_traces(here, capsys):
    paths = []
    for _ in range(3):
        with nandoctor.record("run.parquet") as recording:
            train(Net(), 3)
        paths.append(os.path.basename(recording.path))
    assert paths == ["run.parquet", "run.2.parquet", "run.3.parquet"]
    said = capsys.readouterr()
    assert said.out == "" and "nandoctor: next: nandoctor.diagnose('run.3.parquet')" in said.err
    assert {nandoctor.diagnose(path).run.steps for path in paths} == {3}


def test_an_exception_passes_through_and_is_noted(here):
    with pytest.raises(RuntimeError) as caught, nandoctor.record(quiet=True):
        train(Net(), 2)
        Net()(torch.rand(2, 3))
    shown = "".join(traceback.format_exception(caught.value))
    assert "nandoctor/recording" not in shown and "<nandoctor>" not in shown
    run = nandoctor.diagnose().run
    assert run.exit_code == 1 and run.crash.type == "RuntimeError" and run.crash.file.endswith("test_blocks.py")


def test_a_part_of_a_model_made_before_is_named_by_the_whole(here):
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    with nandoctor.record(quiet=True) as recording:
        for _ in range(3):
            net.head(net.encoder(torch.ones(2, 4))).sum().backward()
            optimizer.step()
    rows = nandoctor.read_trace(recording.path)
    assert set(rows[rows.kind == "activation"].layer) == {"encoder", "head"}


def test_a_nan_of_an_earlier_training_is_not_blamed(here):
    net = Net()
    loss = net(torch.rand(4, 4), torch.zeros(8)).mean()
    assert loss.isnan()
    with nandoctor.record(quiet=True):
        train(Net(), 3)
    assert nandoctor.diagnose().verdict == "healthy"


def test_a_loss_that_the_block_leaves_behind_is_found(here):
    net = Net()
    with nandoctor.record(quiet=True):
        train(net, 3)
        loss = net(torch.rand(4, 4), torch.zeros(8)).mean()
    assert loss.isnan()
    assert nandoctor.diagnose().first_nonfinite.op == "div"


def test_a_block_in_which_nothing_trains_writes_nothing(here, capsys):
    with nandoctor.record() as recording:
        Net()(torch.rand(2, 4))
    assert recording.path is None and os.listdir(here) == []
    assert "nothing was recorded" in capsys.readouterr().err


def test_a_block_within_a_block_adds_nothing(here, capsys):
    with nandoctor.record("outer.parquet", quiet=True), nandoctor.record("inner.parquet") as inner:
        train(Net(), 3)
    assert inner.path is None and os.listdir(here) == ["outer.parquet"]
    assert "recorded already" in capsys.readouterr().err


def test_under_nandoctor_record_the_process_is_recorded_once(here):
    (here / "train.py").write_text(PROGRAM)
    command = [sys.executable, "-m", "nandoctor", "record", "--", sys.executable, "train.py"]
    done = subprocess.run(command, cwd=here, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "None\n"), done.stderr
    assert sorted(path.name for path in here.glob("*.parquet")) == ["run.parquet"]
    assert "recorded already" in done.stderr


def test_a_process_that_ends_inside_leaves_a_whole_trace(here):
    program = PROGRAM.replace("print(recording.path)", "").replace("with nandoctor.rec", "recording = nandoctor.rec")
    program = program.replace(" as recording:", "; recording.begin()\nif True:")
    (here / "train.py").write_text(program)
    done = subprocess.run([sys.executable, "train.py"], cwd=here, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert nandoctor.diagnose(here / "inner.parquet").run.steps == 3


def test_what_cannot_work_is_said_before_anything_trains(here):
    (here / "folder").mkdir()
    for arguments in ({"output": "folder"}, {"layers": "("}, {"watch_step": -1}):
        with pytest.raises(UserError), nandoctor.record(**arguments):
            raise AssertionError("the block began")


def test_layers_are_chosen_as_on_the_command_line(here):
    with nandoctor.record(quiet=True, layers="head"):
        train(Net(), 3)
    rows = nandoctor.read_trace(here / "run.parquet")
    assert set(rows[rows.kind == "activation"].layer) == {"head"}


def test_an_optimizer_that_steps_before_the_model_was_called_knows_its_parameters(here):
    net = Net()
    optimizer = torch.optim.LBFGS(net.parameters(), max_iter=2)

    def closure():
        optimizer.zero_grad()
        loss = net(torch.ones(4, 4)).pow(2).mean()
        loss.backward()
        return loss

    with nandoctor.record(quiet=True) as recording:
        for _ in range(3):
            optimizer.step(closure)
    rows = nandoctor.read_trace(recording.path)
    assert {"encoder.weight", "head.bias"} <= set(rows[rows.kind == "parameter_gradient"].layer)
