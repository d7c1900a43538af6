"""Trainings of plain tensors, of batches in turn and of two optimizers: real and small, sick ones and sound ones."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

import nandoctor


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(5)


def verdict(folder, step, steps=150):
    with nandoctor.record(folder / "run.parquet", quiet=True) as recording:
        for number in range(steps):
            step(number)
    return nandoctor.diagnose(recording.path).verdict


def tensors(change=lambda weights, biases: None, target=lambda y: y, classes=True):
    """One step of a network of three matrices that no module holds."""
    sizes = [8, 40, 40, 5]
    weights = [torch.randn(b, a) * math.sqrt(2 / a) for a, b in zip(sizes, sizes[1:], strict=False)]
    biases = [torch.zeros(b) for b in sizes[1:]]
    change(weights, biases)
    parameters = [p.requires_grad_() for p in (*weights, *biases)]
    x = torch.randn(1000, 8)
    wanted = torch.sin(x[:, :1]) + x[:, 1:2] * x[:, 2:3]
    label = (wanted.squeeze() * 2).round().clamp(-2, 2).long() + 2
    wanted = target(wanted)
    adam, sgd = torch.optim.Adam(parameters, 3e-3), torch.optim.SGD(parameters, 0.02, momentum=0.9)

    def step(_):
        rows = torch.randint(0, 1000, (128,))
        h = x[rows]
        for w, b in zip(weights[:-1], biases[:-1], strict=True):
            h = torch.relu(h @ w.T + b)
        out = h @ weights[-1].T + biases[-1]
        loss = functional.cross_entropy(out, label[rows]) if classes else (out[:, :1] - wanted[rows]).pow(2).mean()
        (adam if classes else sgd).zero_grad()
        loss.backward()
        (adam if classes else sgd).step()

    return step


def pushed_down(weights, biases):
    biases[0].fill_(-12.0)


def all_zero(weights, biases):
    for w in weights:
        w.zero_()


def last_zero(weights, biases):
    weights[-1].zero_()


def with_one_wild_value(y):
    y[17] = 5e4
    return y


def test_plain_tensors_that_train_are_healthy(tmp_path):
    assert verdict(tmp_path, tensors()) == "healthy"


def test_a_last_matrix_of_zeros_is_healthy(tmp_path):
    assert verdict(tmp_path, tensors(last_zero)) == "healthy"


def test_matrices_of_zeros_are_a_bad_initialization(tmp_path):
    assert verdict(tmp_path, tensors(all_zero)) == "bad-initialization"


def test_units_of_plain_tensors_can_be_dead(tmp_path):
    assert verdict(tmp_path, tensors(pushed_down)) == "dead-relu"


def test_targets_never_normalised_are_told_from_the_slope_of_the_loss(tmp_path):
    assert verdict(tmp_path, tensors(target=lambda y: y * 1e3 + 3e5, classes=False), 60) == "data-outlier"


def test_one_wild_target_is_told_from_a_small_update(tmp_path):
    assert verdict(tmp_path, tensors(target=with_one_wild_value, classes=False), 60) == "data-outlier"


def convolution(every=None, restarts=False):
    """One step of a classifier; `every`: labels are turned around for so many steps, then back."""
    net = nn.Sequential(nn.Conv1d(1, 12, 5, 2), nn.ReLU(), nn.Flatten(), nn.Linear(12 * 14, 6))
    x, w = torch.randn(2000, 1, 32), torch.randn(32, 6)
    label = (x[:, 0] @ w).argmax(1)
    optimizer = torch.optim.SGD(net.parameters(), 0.05, momentum=0.9)

    def step(number):
        rows = torch.randint(0, 2000, (64,))
        turned = every is not None and number // every % 2
        if restarts:
            optimizer.param_groups[0]["lr"] = 0.08 * (0.5 + 0.5 * math.cos(math.pi * (number % 30) / 30))
        optimizer.zero_grad()
        functional.cross_entropy(net(x[rows]), 5 - label[rows] if turned else label[rows]).backward()
        optimizer.step()

    return step


def test_blocks_of_contrary_batches_make_the_loss_oscillate(tmp_path):
    assert verdict(tmp_path, convolution(every=10), 300) == "loss-oscillation"


def test_warm_restarts_are_healthy(tmp_path):
    assert verdict(tmp_path, convolution(restarts=True), 300) == "healthy"


def halves(past_the_scaler, unscaled_by_hand=False):
    """One step of an encoder and a head with an optimizer each and one GradScaler."""
    encoder, head = nn.Sequential(nn.Linear(10, 32), nn.Tanh()), nn.Linear(32, 3)
    first, second = torch.optim.SGD(encoder.parameters(), 0.05), torch.optim.SGD(head.parameters(), 0.05)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    x = torch.randn(800, 10)

    def step(_):
        rows = torch.randint(0, 800, (64,))
        with torch.autocast("cpu", dtype=torch.float16):
            out = head(encoder(x[rows]))
        first.zero_grad()
        second.zero_grad()
        scaler.scale(functional.cross_entropy(out.float(), x[rows, :3].argmax(1))).backward()
        if unscaled_by_hand:
            scaler.unscale_(second)
        scaler.step(first)
        second.step() if past_the_scaler or unscaled_by_hand else scaler.step(second)
        scaler.update()

    return step


def test_an_optimizer_stepped_past_its_scaler_is_amp_misuse(tmp_path):
    assert verdict(tmp_path, halves(past_the_scaler=True)) == "amp-misuse"


@pytest.mark.parametrize("by_hand", [False, True])
def test_two_optimizers_whose_gradients_are_unscaled_are_healthy(by_hand, tmp_path):
    assert verdict(tmp_path, halves(past_the_scaler=False, unscaled_by_hand=by_hand)) == "healthy"
