"""How much better than one constant answer a model is, by what its loss was computed with."""

import pytest
import torch
from torch import nn
from torch.nn import functional

import nandoctor

STEPS = 60


def trained(folder, loss_of, targets, width=1, seed=0, scale=1.0, lr=0.05, steps=STEPS):
    """A small model on inputs that explain the targets of `targets`; its diagnosis."""
    torch.manual_seed(seed)
    x = torch.randn(256, 6)
    y = targets(x)
    y = y * scale if scale != 1 else y
    net = nn.Sequential(nn.Linear(6, 24), nn.Tanh(), nn.Linear(24, width))
    optimizer = torch.optim.Adam(net.parameters(), lr=lr)
    with nandoctor.record(folder / "run.parquet", quiet=True) as recording:
        for step in range(steps):
            rows = torch.arange(64) + 64 * (step % 4)
            optimizer.zero_grad()
            loss_of(net(x[rows]), y[rows]).backward()
            optimizer.step()
    return nandoctor.diagnose(recording.path)


def numbers(x):
    return x[:, :1] * 2 + x[:, 1:2]


def noise(x):
    return torch.randn(len(x), 1)


def squared(out, target):
    return functional.mse_loss(out, target)


@pytest.mark.parametrize(
    ("loss", "targets", "width"),
    [
        (squared, numbers, 1),
        (functional.cross_entropy, lambda x: (x[:, 0] > 0).long() + (x[:, 1] > 0).long(), 3),
        (functional.binary_cross_entropy_with_logits, lambda x: (x[:, :1] > 0).float(), 1),
        (lambda out, y: functional.mse_loss(out, y, reduction="sum") * 3, numbers, 1),
        (lambda out, y: ((out - y) ** 2).mean(), numbers, 1),
        (lambda out, y: (y.squeeze(1) - out.squeeze(1)).square().sum(), numbers, 1),
        (lambda out, y: (out - y).abs().mean(), numbers, 1),
        (lambda out, y: ((off := out - y) * off).mean(), numbers, 1),
        (lambda out, y: -out.log_softmax(1)[torch.arange(len(y)), y].mean(), lambda x: (x[:, 0] > 0).long(), 2),
        (lambda out, y: -out.log_softmax(1).gather(1, y[:, None]).mean(), lambda x: (x[:, 0] > 0).long(), 2),
    ],
)
def test_a_model_that_learns_leaves_a_constant_answer_far_behind(tmp_path, loss, targets, width):
    fit = trained(tmp_path, loss, targets, width).evidence.fit
    assert fit.start > 0.6
    assert fit.end < 0.3


def test_a_model_that_cannot_learn_stays_with_a_constant_answer(tmp_path):
    found = trained(tmp_path, squared, noise, lr=3e-4, steps=110)
    assert found.evidence.fit.end > 0.9
    assert found.verdict == "loss-plateau"


def test_the_scale_of_targets_is_seen_without_a_loader(tmp_path):
    found = trained(tmp_path, squared, numbers, scale=3e4)
    assert found.evidence.data.target_rms == pytest.approx(3e4 * 5**0.5, rel=0.3)
    assert found.verdict == "data-outlier"


def test_a_target_that_is_no_probability_is_a_bad_label(tmp_path):
    found = trained(tmp_path, functional.binary_cross_entropy_with_logits, lambda x: (x[:, :1] > 0) * 3.0)
    assert found.verdict == "bad-labels"


@pytest.mark.parametrize(
    "loss",
    [
        lambda out, y: ((out * 2 - y) ** 2).mean(),  # not the model's output
        lambda out, y: ((out - y.T) ** 2).mean(),  # every output against every target
        lambda out, y: (out - y).pow(4).mean(),
        lambda out, y: torch.log(torch.cosh(out - y)).mean(),
    ],
)
def test_a_loss_that_is_not_understood_is_not_guessed_at(tmp_path, loss):
    assert trained(tmp_path, loss, numbers).evidence.fit is None


def test_a_loss_by_hand_that_cannot_be_learned_stays_with_a_constant_answer(tmp_path):
    found = trained(tmp_path, lambda out, y: ((out - y) ** 2).mean(), noise, lr=3e-4, steps=110)
    assert found.evidence.fit.end > 0.9
    assert found.verdict == "loss-plateau"


def test_the_scale_of_targets_is_seen_in_a_loss_by_hand(tmp_path):
    found = trained(tmp_path, lambda out, y: ((y - out) ** 2).mean(), numbers, scale=3e4)
    assert found.evidence.data.target_rms == pytest.approx(3e4 * 5**0.5, rel=0.3)
    assert found.verdict == "data-outlier"


def test_recording_a_target_changes_no_random_number(tmp_path):
    trained(tmp_path, squared, numbers)
    recorded = torch.rand(1)
    torch.manual_seed(0)
    torch.randn(256, 6)
    nn.Sequential(nn.Linear(6, 24), nn.Tanh(), nn.Linear(24, 1))
    assert torch.equal(recorded, torch.rand(1))
