"""Whether a model's answers belong to their samples, whatever its loss is."""

import pytest
import torch
from torch import nn
from torch.nn import functional

import nandoctor
from nandoctor.recording.autopsy.again import Again
from nandoctor.recording.autopsy.values import order

STEPS, ROWS = 120, 48


def trained(folder, loss_of, targets, width=2, inputs=1.0):
    """A small model on a stream of samples; its diagnosis."""
    torch.manual_seed(2)
    net = nn.Sequential(nn.Linear(6, 24), nn.Tanh(), nn.Linear(24, width))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    with nandoctor.record(folder / "run.parquet", quiet=True) as recording:
        for _ in range(STEPS):
            x = torch.randn(ROWS, 6)
            y = targets(x)
            optimizer.zero_grad()
            loss_of(net(x * inputs + (1 - inputs)), y).backward()
            optimizer.step()
    return nandoctor.diagnose(recording.path)


def told(x):
    return 2 + 2 * x[:, 0] + x[:, 1]


def elsewhere(x):
    return told(x)[torch.randperm(len(x))]


def gaussian(out, y):
    return functional.gaussian_nll_loss(out[:, 0], y, functional.softplus(out[:, 1]) + 1e-3)


def quantile(out, y):
    rest = y - out[:, 0]
    return torch.maximum(0.8 * rest, -0.2 * rest).mean()


def hinge(out, y):
    return functional.relu(1 - torch.sign(y - 2) * out[:, 0]).mean()


LOSSES = pytest.mark.parametrize("loss", [gaussian, quantile, hinge])


def test_one_answer_a_sample_without_its_last_dimension_is_understood(tmp_path):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 1), nn.Flatten(0))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    with nandoctor.record(tmp_path / "run.parquet", quiet=True) as recording:
        for _ in range(STEPS):
            x = torch.randn(ROWS, 6)
            optimizer.zero_grad()
            quantile(net(x)[:, None], told(x)).backward()
            optimizer.step()
    assert nandoctor.diagnose(recording.path).evidence.exchanged.tie > 0.3


@LOSSES
def test_answers_to_other_samples_are_a_plateau(tmp_path, loss):
    assert trained(tmp_path, loss, elsewhere).verdict == "loss-plateau"


@LOSSES
def test_a_model_that_learns_is_not_accused(tmp_path, loss):
    found = trained(tmp_path, loss, told)
    assert found.verdict == "healthy"
    assert found.evidence.exchanged.tie > 0.3


def test_a_model_that_is_given_the_same_for_every_sample_learns_nothing(tmp_path):
    found = trained(tmp_path, gaussian, told, inputs=0.0)
    assert found.verdict != "healthy"
    assert found.evidence.exchanged.tie == 0


def test_a_loss_that_compares_answers_with_nothing_says_nothing(tmp_path):
    def density(out, _):
        return (out.square().sum(1) / 2 - out[:, 0].abs().add(1).log()).mean()

    assert trained(tmp_path, density, told).evidence.exchanged is None


def test_a_pair_and_a_pair_that_is_none_are_exchanged_with_one_another(tmp_path):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 1))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    with nandoctor.record(tmp_path / "run.parquet", quiet=True) as recording:
        for _ in range(STEPS):
            better, worse = torch.randn(ROWS, 6) + 0.5, torch.randn(ROWS, 6) - 0.5
            optimizer.zero_grad()
            (-functional.logsigmoid(net(better) - net(worse))).mean().backward()
            optimizer.step()
    found = nandoctor.diagnose(recording.path)
    assert found.verdict == "healthy"
    assert found.evidence.exchanged.tie > 0.3


@pytest.mark.parametrize(
    "loss_of",
    [
        lambda o, y: functional.cross_entropy(o, (y > 0).long()),
        lambda o, y: functional.huber_loss(o.squeeze(1)[:, 0], y, delta=0.5),
        lambda o, y: (-((1 - o[:, 0].sigmoid()) ** 2) * (o[:, 0].sigmoid() + 1e-6).log() * (y > 0)).mean(),
        lambda o, y: 1 - (2 * (o[:, 0].sigmoid() * (y > 0)).sum() + 1) / (o[:, 0].sigmoid().sum() + (y > 0).sum() + 1),
        lambda o, y: functional.binary_cross_entropy_with_logits(o[:, 0], (y > 0) + 0.0, pos_weight=torch.ones(1) * 3),
        lambda o, y: -torch.logsumexp(functional.log_softmax(o, 1) - (y[:, None] - o).square() / 2, 1).mean(),
    ],
)
def test_the_loss_of_other_answers_is_what_the_program_would_compute(loss_of):
    torch.manual_seed(1)
    out, y = nn.Linear(6, 4)(torch.randn(16, 6)), torch.randn(16)
    loss = loss_of(out, y)
    places = torch.randperm(16)
    with torch.no_grad():
        again = Again(loss.grad_fn, {order(out.grad_fn): out.detach()})
        first = again.loss()
        (node,) = again.answers
        other = again.loss({node: out.detach().double()[places]})
        expected = loss_of(out.detach()[places], y)
    assert other - first == pytest.approx((expected - loss).item(), abs=1e-5)
