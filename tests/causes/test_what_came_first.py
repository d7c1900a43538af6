"""What was there before the first step is the root of what follows from it."""

import torch
from torch import nn

import nandoctor

STEPS = 90


def recorded(folder, change=lambda net: None, lr=0.05, inputs=lambda x: x, order=None, optimizer=torch.optim.SGD):
    torch.manual_seed(0)
    x = torch.randn(240, 8)
    y = (x[:, 0] > 0).long() + 2 * (x[:, 1] > 0).long()
    x = inputs(x)
    net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 4))
    change(net)
    steps = optimizer(net.parameters(), lr=lr)
    places = torch.randperm(240) if order is None else order(y)
    with nandoctor.record(folder / "run.parquet", quiet=True) as recording:
        for step in range(STEPS):
            rows = places[24 * (step % 10) : 24 * (step % 10) + 24]
            steps.zero_grad()
            nn.functional.cross_entropy(net(x[rows]), y[rows]).backward()
            steps.step()
    return nandoctor.diagnose(recording.path)


def test_units_that_a_learning_rate_killed_are_not_the_root(tmp_path):
    assert recorded(tmp_path, lr=40.0).verdict == "lr-too-high"


def test_units_that_were_dead_in_the_first_batch_are(tmp_path):
    assert recorded(tmp_path, lambda net: nn.init.constant_(net[2].bias, -30.0)).verdict == "dead-relu"


def test_units_that_loud_inputs_killed_are_not_the_root(tmp_path):
    assert recorded(tmp_path, inputs=lambda x: x * 400 + 900).verdict == "data-outlier"


def test_layers_of_zeros_are_the_root_of_units_that_never_fire(tmp_path):
    def zeros(net):
        for parameter in net.parameters():
            nn.init.zeros_(parameter)

    assert recorded(tmp_path, zeros).verdict == "bad-initialization"


def test_batches_of_one_class_after_another_swing(tmp_path):
    assert recorded(tmp_path, lr=0.5, order=torch.argsort).verdict == "loss-oscillation"


def test_mixed_batches_at_a_sane_rate_are_healthy(tmp_path):
    assert recorded(tmp_path, lr=0.3).healthy


def test_a_momentum_of_one_is_named_whatever_came_of_it(tmp_path):
    def endless(parameters, lr):
        return torch.optim.SGD(parameters, lr=lr, momentum=1.0)

    assert recorded(tmp_path, lr=1e-3, optimizer=endless).verdict == "optimizer-epsilon"
