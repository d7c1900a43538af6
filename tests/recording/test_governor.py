"""What is recorded at which steps, and that a fault between two recorded steps is named all the same."""

import subprocess
import sys
from pathlib import Path

import pytest

import nandoctor
from nandoctor.recording.governor import BURST, Governor, Room
from nandoctor.recording.settings import Settings

TRAINING = """
import sys, torch
from torch import nn
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4))
optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
x, y = torch.randn(256, 64), torch.randn(256, 4)
steps, fault = int(sys.argv[1]), int(sys.argv[2])
for step in range(steps):
    optimizer.zero_grad()
    spread = (net(x) - y).pow(2).mean(1)
    if step == fault:
        spread = spread * 0 - 1
    loss = torch.log1p(spread).mean()
    loss.backward()
    optimizer.step()
print(sum(p.double().sum().item() for p in net.parameters()))
"""


def record(folder: Path, *options: str, steps: int = 400, fault: int = -1) -> tuple[Path, str]:
    (folder / "train.py").write_text(TRAINING)
    done = subprocess.run(
        [sys.executable, "-m", "nandoctor", "record", *options, "--",
         sys.executable, "train.py", str(steps), str(fault)],
        cwd=folder, check=True, capture_output=True, text=True,
    )  # fmt: skip
    return folder / "run.parquet", done.stdout


@pytest.fixture(scope="module")
def thinned(tmp_path_factory):
    folder = tmp_path_factory.mktemp("thinned")
    trace, output = record(folder)
    plain = subprocess.run(
        [sys.executable, "train.py", "400", "-1"], cwd=folder, check=True, capture_output=True, text=True
    )
    assert output == plain.stdout
    return nandoctor.read_trace(trace)


@pytest.mark.parametrize("kind", ["loss", "gradient_norm", "learning_rate", "backward", "parameter_gradient", "step"])
def test_the_series_of_the_run_have_a_row_at_every_step(thinned, kind):
    assert sorted(set(thinned[thinned.kind == kind].step)) == list(range(400))


@pytest.mark.parametrize("kind", ["activation", "output_gradient", "weight", "update"])
def test_layers_are_recorded_at_each_of_the_first_steps_and_at_few_of_the_rest(thinned, kind):
    steps = set(thinned[thinned.kind == kind].step)
    assert set(range(1, 100)) <= steps
    assert len(steps) < 300


def test_everything_is_recorded_at_every_step_without_a_budget(tmp_path):
    rows = nandoctor.read_trace(record(tmp_path, "--budget", "0", steps=150)[0])
    assert set(rows[rows.kind == "activation"].step) == set(range(150))


def test_the_first_steps_can_be_more_or_fewer(tmp_path):
    rows = nandoctor.read_trace(record(tmp_path, "--whole-steps", "7", "--budget", "0.0001", steps=60)[0])
    assert set(rows[rows.kind == "activation"].step) == set(range(7))


def test_a_birth_between_two_recorded_steps_is_named_with_its_line(tmp_path):
    diagnosis = nandoctor.diagnose(record(tmp_path, "--budget", "0.0001", steps=160, fault=137)[0])
    born = diagnosis.first_nonfinite
    assert born is not None
    assert (born.step, born.phase, born.op) == (137, "loss", "log1p")
    assert "log1p" in TRAINING.splitlines()[born.line - 1]


def test_after_an_alarm_every_step_is_recorded_whole(tmp_path):
    rows = nandoctor.read_trace(record(tmp_path, "--budget", "0.0001", steps=160, fault=137)[0])
    assert set(range(138, 160)) <= set(rows[rows.kind == "activation"].step)


def test_a_long_run_stays_within_its_size(tmp_path):
    trace, _ = record(tmp_path, "--max-size", "1M", "--budget", "0", steps=3000)
    rows = nandoctor.read_trace(trace)
    assert len(rows) * 40 <= 2**20
    steps = sorted(set(rows[rows.kind == "loss"].step))
    assert steps[-1] > 2800  # it was thinned, not cut
    assert set(range(50)) <= set(steps)


def test_a_room_is_never_filled():
    room = Room(1000)
    for step in range(1_000_000):
        if step % room.every == 0:
            room.use(1)
    assert 0 <= room.left < 10


class Clock:
    """A training whose steps take a known time, half of a whole step being ours."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
        self.now = self.spent = 0.0
        monkeypatch.setattr("nandoctor.recording.governor.time.perf_counter", lambda: self.now)
        self.governor = Governor(settings, lambda: self.spent)
        self.step = 0

    def run(self, steps: int, norm: float = 1.0) -> list[int]:
        """The steps among them that were recorded whole."""
        whole = []
        for _ in range(steps):
            if self.governor.whole:
                whole.append(self.step)
            ours = 0.01 if self.governor.whole else 0.0001
            self.now += 0.02 + ours
            self.spent += ours
            self.governor.gradient(norm)
            self.step += 1
            self.governor.step_ends(self.step)
        return whole


def test_the_share_of_a_long_run_keeps_to_the_budget(monkeypatch):
    clock = Clock(monkeypatch, Settings(budget=3.0))
    clock.run(100)
    before = clock.spent, clock.now
    whole = clock.run(5000)
    assert (clock.spent - before[0]) / (clock.now - before[1]) < 0.03
    assert len(whole) > 80  # and it is used: 0.7 of 3 % over 101 s, 1.5 times 0.5 s of other steps, 10 ms each
    assert all(step + 1 in whole or step - 1 in whole for step in whole), BURST


def test_a_rising_gradient_norm_brings_recording_forward(monkeypatch):
    clock = Clock(monkeypatch, Settings(budget=0.5))
    clock.run(100)
    assert not clock.run(30)
    assert clock.run(30, norm=10.0)


def test_an_alarm_is_recorded_whole_whatever_it_costs(monkeypatch):
    clock = Clock(monkeypatch, Settings(budget=0.0001))
    clock.run(300)
    clock.governor.alarm()
    assert clock.run(50) == list(range(300, 350))
