"""Small programs that would end, or stand still, at a NaN: `python programs.py NAME sick`. Each prints its final loss.

Their checks are written out as people write them: what active mode answers depends on the statement that asks.
"""

import math
import sys

import torch
from torch import nn
from torch.nn import functional as F

STEPS = 60


def data(rows=512):
    x = torch.randn(rows, 8)
    return x, (x[:, :1] * 1.5 - x[:, 1:2]).tanh()


def mlp(out=1):
    return nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, out))


def drawn(x, y, steps=STEPS):
    for _ in range(steps):
        rows = torch.randint(0, len(x), (32,))
        yield x[rows], y[rows]


def ended(model, x, y):
    with torch.no_grad():
        return F.mse_loss(model(x).float(), y).item()


def missing(sick):
    """Training data with holes, and without."""
    x, y = data()
    broken = x.clone()
    if sick:
        broken[::64, 3] = float("nan")
    return x, y, broken


def rooted(model, inputs, targets, sick):
    output = model(inputs)
    squares = (output - output.detach()).square().sum(1)
    return F.mse_loss(output, targets) + 1e-4 * (squares.sqrt() if sick else (squares + 1e-12).sqrt()).mean()


def trained(loss_of, sick, looked=None, optimizer=None, after=None):
    x, y, broken = missing(sick and loss_of is None)
    model = mlp()
    optimizer = (optimizer or (lambda p: torch.optim.Adam(p, lr=5e-3)))(model.parameters())
    for inputs, targets in drawn(broken, y):
        loss = F.mse_loss(model(inputs), targets) if loss_of is None else loss_of(model, inputs, targets, sick)
        if looked is not None:
            looked(loss)
        optimizer.zero_grad()
        loss.backward()
        if after is not None:
            after(model)
        optimizer.step()
    return ended(model, x, y)


# --- checks that end the script ----------------------------------------------------------------------------------
def asserted(sick):
    def looked(loss):
        assert torch.isfinite(loss), "the loss is not finite"

    return trained(None, sick, looked)


def left_by_exit(sick):
    def looked(loss):
        value = loss.item()
        if not math.isfinite(value):
            print(f"loss is {value}, stopping training")
            sys.exit(1)

    return trained(None, sick, looked)


def broken_off(sick):
    x, y, broken = missing(sick)
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for inputs, targets in drawn(broken, y):
        loss = F.mse_loss(model(inputs), targets)
        bad = torch.isnan(loss).any()
        if bad:
            return math.nan
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return ended(model, x, y)


def asked_by_a_function(sick):
    def diverged(loss):
        return loss.isnan() or loss.isinf()

    def looked(loss):
        if diverged(loss):
            raise RuntimeError("diverged")

    return trained(None, sick, looked)


def gradients_asserted(sick):
    def after(model):
        for parameter in model.parameters():
            assert torch.isfinite(parameter.grad).all()

    return trained(rooted, sick, after=after)


def anomaly_mode(sick):
    torch.autograd.set_detect_anomaly(True)
    return trained(rooted, sick)


def clip_that_raises(sick):
    def after(model):
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0, error_if_nonfinite=True)

    return trained(rooted, sick, after=after)


def bce_of_nan(sick):
    def loss_of(model, inputs, targets):
        return F.binary_cross_entropy(torch.sigmoid(model(inputs)), (targets > 0).float())

    x, y, broken = missing(sick)
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for inputs, targets in drawn(broken, y):
        optimizer.zero_grad()
        loss_of(model, inputs, targets).backward()
        optimizer.step()
    with torch.no_grad():
        return loss_of(model, x, y).item()


# --- half precision ----------------------------------------------------------------------------------------------
def ratio_in_half(sick):
    """A weight of the loss that overflows as it is cast, in some batches."""

    def loss_of(model, inputs, targets, _):
        weight = 1 / inputs[:, 5:6].abs().clamp_min(1e-6)
        weight = (weight * 300).to(torch.float16 if sick else torch.float32).float().log1p() / 5
        return (weight * (model(inputs) - targets) ** 2).mean()

    return trained(loss_of, sick)


def pure_half(sick):
    """Weights in half under Adam: eps and the second moment round to 0."""
    x, y = data()
    model = mlp().half() if sick else mlp()
    dtype = next(model.parameters()).dtype
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for inputs, targets in drawn(x.to(dtype), y.to(dtype)):
        optimizer.zero_grad()
        F.mse_loss(model(inputs), targets).backward()
        optimizer.step()
    return ended(model.float(), x, y)


# --- where the input comes from ------------------------------------------------------------------------------------
class ByKeyword(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = mlp()

    def forward(self, *, inputs):
        return self.net(inputs)


def given_by_keyword(sick):
    x, y, broken = missing(sick)
    model = ByKeyword()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for inputs, targets in drawn(broken, y):
        optimizer.zero_grad()
        F.mse_loss(model(inputs=inputs), targets).backward()
        optimizer.step()
    with torch.no_grad():
        return F.mse_loss(model(inputs=x), y).item()


if __name__ == "__main__":
    torch.manual_seed(0)
    print(f"{globals()[sys.argv[1]](sys.argv[2] == 'sick'):.6f}")
