"""Runs that fail without a NaN, in architectures of their own; each beside a healthy one that looks alike."""

import torch
from torch import nn
from torch.nn import functional

import nandoctor

STEPS = 160


def trained(folder, net, loss_of, batch_of, steps=STEPS, lr=3e-3, optimizer=torch.optim.Adam):
    moving = optimizer(net.parameters(), lr=lr)
    with nandoctor.record(folder / "run.parquet", quiet=True) as recording:
        for step in range(steps):
            moving.zero_grad()
            loss_of(net, *batch_of(step)).backward()
            moving.step()
    return nandoctor.diagnose(recording.path)


def tower(activation, depth=6):
    layers = [nn.Linear(10, 32), activation()]
    for _ in range(depth):
        layers += [nn.Linear(32, 32), activation()]
    return nn.Sequential(*layers, nn.Linear(32, 3))


def classes(step):
    torch.manual_seed(step)
    x = torch.randn(48, 10)
    return x, (x @ torch.linspace(-1, 1, 30).reshape(10, 3)).argmax(1)


def classify(net, x, y):
    return functional.cross_entropy(net(x), y) / 2  # as one divides to accumulate


def test_a_tower_of_sigmoids_that_gives_all_samples_one_answer_has_vanishing_gradients(tmp_path):
    torch.manual_seed(0)
    found = trained(tmp_path, tower(nn.Sigmoid), classify, classes)
    assert found.verdict == "vanishing-gradients"
    assert found.evidence.spread.left < 0.01


def test_the_same_tower_of_relus_is_healthy(tmp_path):
    torch.manual_seed(0)
    found = trained(tmp_path, tower(nn.ReLU, depth=2), classify, classes)
    assert found.verdict == "healthy"
    assert found.evidence.spread.left > 0.03


def unordered(step):
    x, y = classes(step)
    return x, y[torch.randperm(len(y))]


def test_labels_out_of_order_are_a_plateau_though_the_loss_fell_from_a_loud_start(tmp_path):
    torch.manual_seed(0)
    net = tower(nn.ReLU, depth=1)
    with torch.no_grad():
        net[-1].weight.mul_(4)
    found = trained(tmp_path, net, classify, unordered, steps=240)
    assert found.evidence.fit.alone
    assert found.verdict == "loss-plateau"


def contrast(net, x, y):
    a, b = functional.normalize(net(x), dim=1), functional.normalize(net(y), dim=1)
    return functional.cross_entropy(a @ b.T / 0.2, torch.arange(len(a)))


def pairs(step):
    x, _ = classes(step)
    return x, x + 0.2 * torch.randn_like(x)


def strangers(step):
    return classes(step)[0], classes(step + 10_000)[0]


def test_pairs_that_are_strangers_teach_no_more_than_guessing(tmp_path):
    torch.manual_seed(0)
    found = trained(tmp_path, tower(nn.ReLU, depth=1), contrast, strangers, steps=240)
    assert found.verdict == "loss-plateau"


def test_pairs_that_belong_together_are_learned(tmp_path):
    torch.manual_seed(0)
    found = trained(tmp_path, tower(nn.ReLU, depth=1), contrast, pairs)
    assert found.verdict == "healthy"
    assert found.evidence.fit.start > found.evidence.fit.end


def counts(step):
    torch.manual_seed(step)
    x = torch.randn(64, 10)
    return x, torch.poisson((x[:, :1] + 0.5).clamp(max=3).exp())


def shuffled_counts(step):
    x, y = counts(step)
    return x, y[torch.randperm(len(y))]


def poisson(net, x, y):
    return functional.poisson_nll_loss(net(x)[:, :1], y)


def test_counts_are_measured_against_their_mean(tmp_path):
    torch.manual_seed(0)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    sound = trained(tmp_path / "a", tower(nn.ReLU, depth=1), poisson, counts, steps=90)
    mixed = trained(tmp_path / "b", tower(nn.ReLU, depth=1), poisson, shuffled_counts, steps=90)
    assert sound.verdict == "healthy"
    assert sound.evidence.fit.end < 0.7 < 0.9 < mixed.evidence.fit.end


def soften(step):
    x, _ = classes(step)
    return x, torch.softmax(x[:, :3] * 3, 1)


def test_soft_targets_are_measured_against_their_mean(tmp_path):
    torch.manual_seed(0)

    def loss_of(net, x, y):
        return -(functional.log_softmax(net(x), 1) * y).sum(1).mean()

    assert trained(tmp_path, tower(nn.ReLU, depth=1), loss_of, soften).evidence.fit.end < 0.5


class Halves(nn.Module):
    """An actor and a critic whose body is sliced at every call."""

    def __init__(self):
        super().__init__()
        self.actor = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 1))
        self.critic = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 1))

    def forward(self, x):
        return self.actor(x), self.critic[2](self.critic[:2](x))


def test_a_slice_of_a_sequential_is_no_second_model(tmp_path):
    torch.manual_seed(0)

    def loss_of(net, x):
        a, b = net(x)
        return (a - x[:, :1]).pow(2).mean() + (b - x[:, 1:2]).abs().mean()

    found = trained(tmp_path, Halves(), loss_of, lambda step: (torch.randn(32, 4),))
    assert found.verdict == "healthy"
    assert found.evidence.layout.models == 1
    assert found.evidence.trained.moved == 1.0
    assert found.evidence.fit.beside


def test_half_of_the_labels_left_out_now_and_then_all_is_a_fault_of_labels(tmp_path):
    torch.manual_seed(0)

    def loss_of(net, x, y):
        scores = net(x).masked_fill(torch.tensor([False, False, True]), float("-inf"))
        return functional.cross_entropy(scores, y)

    def batch_of(step):
        x, y = classes(step)
        return x, torch.full_like(y, -100) if step == 33 else y % 2

    found = trained(tmp_path, tower(nn.ReLU, depth=1), loss_of, batch_of, steps=40)
    assert found.verdict == "bad-labels"


def test_pairs_of_rows_under_batchnorm_are_named_though_their_losses_are_noise(tmp_path):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(10, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 1))

    def batch_of(step):
        torch.manual_seed(step)
        x = torch.randn(2, 10)
        return x, x[:, :1] + torch.randn(2, 1)

    found = trained(tmp_path, net, lambda n, x, y: functional.mse_loss(n(x), y), batch_of, steps=400)
    assert found.verdict == "batchnorm-tiny-batch"
