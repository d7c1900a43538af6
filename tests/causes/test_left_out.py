"""Runs in which something stands still that others train beside, or is thrown, or only looks so: real, and small."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

import nandoctor


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(7)


def mlp(given, wanted, activation=nn.ReLU):
    return nn.Sequential(nn.Linear(given, 24), activation(), nn.Linear(24, wanted))


def verdict(folder, step, steps=150):
    with nandoctor.record(folder / "run.parquet", quiet=True) as recording:
        for number in range(steps):
            step(number)
    return nandoctor.diagnose(recording.path).verdict


def descend(optimizer, loss):
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def adversaries(generator_lr=1e-3, left_out=False):
    """One step of a GAN; `left_out`: both optimizers hold the critic."""
    generator, critic = mlp(4, 2, nn.Tanh), mlp(2, 1, nn.Tanh)
    of_critic = torch.optim.Adam(critic.parameters(), lr=1e-3)
    of_generator = torch.optim.Adam((critic if left_out else generator).parameters(), lr=generator_lr)
    bce = functional.binary_cross_entropy_with_logits

    def step(_):
        real, fake = torch.randn(32, 2) + 2, generator(torch.randn(32, 4))
        ones, zeros = torch.ones(32, 1), torch.zeros(32, 1)
        descend(of_critic, bce(critic(real), ones) + bce(critic(fake.detach()), zeros))
        descend(of_generator, bce(critic(generator(torch.randn(32, 4))), ones))

    return step


def test_a_generator_that_no_optimizer_holds_stands_still(tmp_path):
    assert verdict(tmp_path, adversaries(left_out=True)) == "loss-plateau"


def test_a_game_of_two_is_healthy(tmp_path):
    assert verdict(tmp_path, adversaries()) == "healthy"


def test_the_output_of_a_hot_generator_is_no_loud_data(tmp_path):
    assert verdict(tmp_path, adversaries(generator_lr=0.5)) == "lr-too-high"


def regression(net, optimizer, target=lambda x: x[:, :1] * x[:, 1:2] + x[:, 2:3], before=lambda loss: loss):
    def step(_):
        x = torch.randn(48, 6)
        descend(optimizer, before(functional.mse_loss(net(x), target(x))))

    return step


def test_a_loop_without_a_step_trains_nothing(tmp_path):
    net = mlp(6, 1)

    def step(_):
        net.zero_grad()
        functional.mse_loss(net(torch.randn(48, 6)), torch.randn(48, 1)).backward()

    assert verdict(tmp_path, step, steps=120) == "loss-plateau"


def test_adagrad_is_given_a_larger_rate(tmp_path):
    net = mlp(6, 1)
    assert verdict(tmp_path, regression(net, torch.optim.Adagrad(net.parameters(), lr=0.2))) == "healthy"


def test_an_epsilon_above_every_gradient_is_named_before_the_standstill_that_it_makes(tmp_path):
    net = mlp(6, 1)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, eps=30.0)
    assert verdict(tmp_path, regression(net, optimizer)) == "optimizer-epsilon"


class Tables(nn.Module):
    def __init__(self, spread):
        super().__init__()
        self.left, self.right, self.level = nn.Embedding(20, 4), nn.Embedding(20, 4), nn.Parameter(torch.zeros(1))
        for table in (self.left, self.right):
            nn.init.normal_(table.weight, std=spread)

    def forward(self, pairs):
        return (self.left(pairs[:, 0]) * self.right(pairs[:, 1])).sum(1) + self.level


@pytest.mark.parametrize(("spread", "expected"), [(0.0, "bad-initialization"), (0.3, "healthy")])
def test_the_product_of_two_tables_of_zeros_stays_zero(tmp_path, spread, expected):
    net, wanted = Tables(spread), torch.randn(20, 4) @ torch.randn(4, 20)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.1)

    def step(_):
        pairs = torch.randint(0, 20, (64, 2))
        descend(optimizer, functional.mse_loss(net(pairs), wanted[pairs[:, 0], pairs[:, 1]]))

    assert verdict(tmp_path, step) == expected


class Shifted(nn.Module):
    """Between its layers what the ReLU is given is moved; far below 0 no unit fires, though the layer does."""

    def __init__(self, shift):
        super().__init__()
        self.up, self.down, self.shift = nn.Linear(6, 32), nn.Linear(32, 1), shift

    def forward(self, x):
        return self.down(torch.relu(self.up(x) + self.shift))


@pytest.mark.parametrize(("shift", "expected"), [(-12.0, "dead-relu"), (0.0, "healthy")])
def test_a_weight_without_a_gradient_beside_a_bias_that_has_one_is_fed_zeros(tmp_path, shift, expected):
    net = Shifted(shift)
    assert verdict(tmp_path, regression(net, torch.optim.Adam(net.parameters(), lr=5e-3))) == expected


def test_much_noise_in_the_targets_is_no_standstill(tmp_path):
    net = mlp(6, 1)
    noisy = regression(
        net, torch.optim.Adam(net.parameters(), lr=3e-3), lambda x: 0.6 * x[:, :1] + 1.2 * torch.randn(48, 1)
    )
    assert verdict(tmp_path, noisy, steps=250) == "healthy"


def test_targets_that_a_growing_network_makes_tell_nothing_of_progress(tmp_path):
    values, old = mlp(6, 1), None
    old = copy.deepcopy(values)
    optimizer = torch.optim.Adam(values.parameters(), lr=3e-3)

    def step(number):
        x, following = torch.randn(48, 6), torch.randn(48, 6)
        with torch.no_grad():
            wanted = (x[:, :1] > 0).float() + 0.95 * old(following)
        descend(optimizer, functional.mse_loss(values(x), wanted))
        if number % 10 == 0:
            old.load_state_dict(values.state_dict())

    assert verdict(tmp_path, step, steps=200) == "healthy"


def under_a_loss_scale(divided, clip, unscaled=True, values=None):
    """A classifier in float16; `divided`: by the loss scale, by hand, after unscale_ has done it; `values`: clipped."""
    net = mlp(6, 3)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    scaler = torch.amp.GradScaler("cpu", init_scale=4096.0)

    def step(_):
        x = torch.randn(48, 6)
        with torch.autocast("cpu", dtype=torch.float16):
            logits = net(x)
        loss = functional.cross_entropy(logits.float(), x[:, :3].argmax(1))
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        if unscaled:
            scaler.unscale_(optimizer)
        if values:
            nn.utils.clip_grad_value_(net.parameters(), values)
        if divided:
            for parameter in net.parameters():
                parameter.grad.div_(divided)
        if clip:
            nn.utils.clip_grad_norm_(net.parameters(), clip)
        scaler.step(optimizer)
        scaler.update()

    return step


def test_gradients_that_are_divided_by_the_loss_scale_again_are_misuse(tmp_path):
    assert verdict(tmp_path, under_a_loss_scale(4096.0, None)) == "amp-misuse"


def test_values_clipped_while_they_are_scaled_are_misuse(tmp_path):
    assert verdict(tmp_path, under_a_loss_scale(None, None, unscaled=False, values=0.5)) == "amp-misuse"


@pytest.mark.parametrize("divided, clip", [(None, 1e-3), (4.0, None), (None, None)], ids=["clipped", "mean", "plain"])
def test_gradients_that_are_small_for_another_reason_are_none(tmp_path, divided, clip):
    assert verdict(tmp_path, under_a_loss_scale(divided, clip)) != "amp-misuse"


def test_a_mask_that_half_precision_cannot_hold_ends_the_run_and_is_named(tmp_path):
    net = mlp(6, 6)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    with pytest.raises(RuntimeError), nandoctor.record(tmp_path / "run.parquet", quiet=True) as recording:
        for _ in range(3):
            x = torch.randn(8, 6)
            with torch.autocast("cpu", dtype=torch.float16):
                scores = net(x).masked_fill(x > 0, -1e9)
            descend(optimizer, scores.float().softmax(-1).square().mean())
    assert nandoctor.diagnose(recording.path).verdict == "fp16-overflow"
