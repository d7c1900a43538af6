"""Runs that fail without a NaN, and runs that only look as if: real ones, as small as they can be."""

import torch
from torch import nn
from torch.nn import functional

import nandoctor


def run(folder, net, batches, steps=60, loss_of=functional.mse_loss, lr=1e-2, after=None, optimizer=torch.optim.Adam):
    optimizer = optimizer(net.parameters(), lr=lr)
    with nandoctor.record(folder / "run.parquet", quiet=True) as recording:
        for step in range(steps):
            x, y = batches(step)
            optimizer.zero_grad()
            loss_of(net(x), y).backward()
            optimizer.step()
            if after is not None:
                after(step)
    return nandoctor.diagnose(recording.path)


def numbers(rows=32):
    def batch(_):
        x = torch.randn(rows, 6)
        return x, x[:, :1] + x[:, 1:2] * x[:, 2:3]

    return batch


class Negated(nn.Module):
    """relu(-relu(x)) is 0 for every x."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.head = nn.Linear(6, 32), nn.Linear(32, 32), nn.Linear(32, 1)

    def forward(self, x):
        return self.head(torch.relu(-torch.relu(self.two(torch.relu(self.one(x))))))


class Forgetful(nn.Module):
    """A recurrent cell by hand; `reset` forgets the state before every use."""

    def __init__(self, reset):
        super().__init__()
        self.given, self.kept, self.head, self.reset = nn.Linear(2, 16), nn.Linear(16, 16), nn.Linear(16, 1), reset

    def forward(self, x):
        state = x.new_zeros(len(x), 16)
        for at in range(x.shape[1]):
            state = x.new_zeros(len(x), 16) if self.reset else state
            state = torch.tanh(self.given(x[:, at]) + self.kept(state))
        return self.head(state)


def mlp(width=32):
    return nn.Sequential(nn.Linear(6, width), nn.ReLU(), nn.Linear(width, 1))


def test_a_relu_of_what_is_never_positive_is_dead_and_nothing_vanishes(tmp_path):
    torch.manual_seed(0)
    found = run(tmp_path, Negated(), numbers())
    assert found.verdict == "dead-relu"
    assert found.evidence.flow.blocked == "two"


def test_a_state_that_is_reset_before_every_use_is_a_plateau(tmp_path):
    def first(_):
        x = torch.randn(32, 10, 2)
        return x, x[:, 0, :1]

    torch.manual_seed(0)
    found = run(tmp_path, Forgetful(reset=True), first)
    assert found.evidence.flow.unfed == "kept.weight"
    assert found.verdict == "loss-plateau"


def test_a_state_that_is_kept_is_no_fault(tmp_path):
    def last(_):
        x = torch.randn(32, 10, 2)
        return x, x[:, -1, :1] + 0.5 * x[:, -2, :1]

    torch.manual_seed(0)
    found = run(tmp_path, Forgetful(reset=False), last, steps=120)
    assert found.evidence.flow.unfed is None and found.healthy


def test_a_cell_that_is_used_once_never_needs_its_state(tmp_path):
    class Once(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell, self.head = nn.GRUCell(6, 24), nn.Linear(24, 1)

        def forward(self, x):
            return self.head(self.cell(x))

    torch.manual_seed(0)
    assert run(tmp_path, Once(), lambda _: (x := torch.randn(32, 6), x[:, :1]), steps=120).healthy


def test_a_loss_that_half_precision_rounds_to_0_is_an_underflow(tmp_path):
    def faint(out, y):
        return ((out - y) * 1e-7).half().square().mean()

    torch.manual_seed(0)
    assert run(tmp_path, mlp(), numbers(), loss_of=faint).verdict == "fp16-underflow"


def test_a_loss_of_0_in_full_precision_is_a_plateau(tmp_path):
    torch.manual_seed(0)
    assert run(tmp_path, mlp(), numbers(), loss_of=lambda out, y: ((out - y) * 0).mean()).verdict == "loss-plateau"


def averaged_over(net, corrected, rate=0.02):
    average = [torch.zeros_like(p) for p in net.parameters()]

    def after(step):
        with torch.no_grad():
            for own, p in zip(average, net.parameters(), strict=True):
                own.lerp_(p, rate)
                if step % 20 == 19:
                    p.copy_(own / (1 - (1 - rate) ** (step + 1)) if corrected else own * 0.2)

    return after


def linear(_):
    x = torch.randn(32, 6)
    return x, 2 * x[:, :1] - x[:, 1:2]


def test_an_average_that_is_copied_back_and_undoes_the_training_corrupts_the_weights(tmp_path):
    torch.manual_seed(0)
    net = mlp()
    assert run(tmp_path, net, linear, after=averaged_over(net, corrected=False)).verdict == "corrupt-weights"


def test_a_sound_average_that_is_copied_back_is_healthy(tmp_path):
    torch.manual_seed(0)
    net = mlp()
    assert run(tmp_path, net, linear, steps=120, after=averaged_over(net, corrected=True, rate=0.2)).healthy


def test_a_number_beside_the_training_is_told_and_accuses_nobody(tmp_path):
    def after(step):
        with torch.no_grad():
            test_loss = torch.tensor([]).mean()
            test_loss.item()

    torch.manual_seed(0)
    found = run(tmp_path, mlp(), linear, after=after)
    assert found.healthy and found.first_nonfinite is None
    if found.evidence.incidents.beside is not None:
        assert any("computed in evaluation" in text for text in found.not_seen)


def test_batches_of_three_are_noise_and_no_plateau(tmp_path):
    def noisy(_):
        x = torch.randn(3, 6)
        return x, torch.sin(x[:, :1]) + x[:, 1:2] * x[:, 2:3] + 0.5 * torch.randn(3, 1)

    torch.manual_seed(2)
    assert run(tmp_path, mlp(), noisy, steps=150, loss_of=lambda out, y: torch.log1p((out - y) ** 2).mean()).healthy


def test_losses_without_order_do_not_zigzag_by_chance():
    from nandoctor.causes.course import zigzags
    from nandoctor.evidence import course
    from nandoctor.evidence.series import Series

    torch.manual_seed(0)
    called = 0
    for _ in range(200):
        values = 1 + 0.3 * torch.rand(160, dtype=torch.float64).numpy()
        found = course.gather(Series(torch.arange(160).numpy(), values), None)
        called += zigzags(found)
    assert called <= 4
