"""What copies have to prove before a run that learns is touched; and what a bad forward pass leaves behind."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from nandoctor.treat import float32
from nandoctor.treat.cut import harmful, most
from nandoctor.treat.rehearsal import search
from nandoctor.treat.safety import Safety
from nandoctor.treat.snapshots import Snapshots, restore
from nandoctor.treat.vitals import Vitals
from nandoctor.treat.weighing import farther
from tests.treat.runs import treated

PLATEAU = """
import torch
from torch import nn
torch.manual_seed(0)
x = torch.randn(1024, 16)
y = (x @ torch.randn(16, 8)).argmax(1)
model = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 8))
optimizer = torch.optim.Adam(model.parameters(), lr=0.5)
for step in range(150):
    rows = torch.randint(0, 1024, (64,))
    loss = nn.functional.cross_entropy(model(x[rows]), y[rows])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print(nn.functional.cross_entropy(model(x), y).item())
"""


def falling(start, end, count=50):
    return [start + (end - start) * k / count + 0.01 * math.sin(7 * k) for k in range(count)]


def test_a_rate_at_which_the_run_falls_to_chance_is_cut():
    assert farther(falling(2.3, 0.5), falling(2.4, 2.3), 2.3)
    assert not farther(falling(2.3, 1.9), falling(2.3, 1.85), 2.3), "the run is ahead"
    assert not farther(falling(2.3, 0.5), falling(2.3, 0.6), 2.3), "nearly as far"


def test_a_run_that_hovers_at_chance_with_a_hot_rate_learns_again(tmp_path):
    run = treated(tmp_path, "", program=PLATEAU)

    assert run.exit_code == 0 and run.loss < 1.0, run.said


def test_a_smaller_rate_is_asked_for_only_where_this_one_does_harm():
    asked = []

    def losses(candidate):
        asked.append(candidate())
        return falling(2.0, 1.5)

    told = SimpleNamespace(copy=None, losses=losses)
    search(told, lambda times: times, 2.0, harmful)
    assert min(asked) == 1.0 and max(asked) > 1.0
    assert harmful(falling(1.0, 2.0)) and harmful([math.nan]) and not harmful(falling(2.0, 1.0))


def test_a_moving_target_is_no_drift_and_a_rising_rate_is():
    steady, rising = Vitals(), Vitals()
    for k in range(160):
        loss = 0.2 + abs(k - 40) / 80 + 0.01 * math.sin(7 * k)
        steady.loss_is(loss, 0.01)
        rising.loss_is(loss, 0.001 * k)
    assert rising.drifted() and not steady.drifted()


def test_a_group_far_hotter_than_the_others_is_brought_down_to_them():
    hot, plain = nn.Linear(2, 2), nn.Linear(2, 2)
    optimizer = torch.optim.SGD([{"params": plain.parameters()}, {"params": hot.parameters(), "lr": 3.0}], lr=0.05)
    assert [most(optimizer, group) for group in optimizer.param_groups] == [1.0, pytest.approx(0.05 / 3.0)]


def test_running_statistics_that_a_nan_reached_are_sound_again_and_masks_stay():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm1d(3)
            self.register_buffer("mask", torch.tensor([0.0, -math.inf]))

    net, said = Net(), []
    net.norm(torch.full((4, 3), math.nan))
    Safety(Snapshots()).buffers([net], said.append)
    assert net.norm.running_mean.tolist() == [0, 0, 0] and net.norm.running_var.tolist() == [1, 1, 1]
    assert net.mask.tolist() == [0.0, -math.inf] and len(said) == 2


def test_a_rollback_between_forward_and_backward_does_not_end_the_program():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    snapshots = Snapshots()
    snapshots.take(0, [optimizer], [])
    loss = model(torch.ones(1, 2)).sum()
    restore(snapshots.kept[0])
    loss.backward()


def test_operations_that_write_into_their_argument_are_known():
    assert float32.in_place(torch.Tensor.add_) and float32.in_place(torch.Tensor.__iadd__)
    assert not float32.in_place(torch.add) and not float32.in_place(torch.Tensor.__add__)
