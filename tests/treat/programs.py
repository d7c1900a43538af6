"""Small trainings with one fault each, and without it: `python programs.py NAME sick`. Each prints its final loss.

The tests call the functions for the plain runs, and run this file under `nandoctor treat` for the treated ones.
"""

import math
import sys

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

STEPS = 120


def regression(rows=512, width=8):
    x = torch.randn(rows, width)
    y = (x[:, :1] * 1.5 - x[:, 1:2]).tanh() + 0.05 * torch.randn(rows, 1)
    return x, y


def mlp(width=8, hidden=32, out=1):
    return nn.Sequential(nn.Linear(width, hidden), nn.Tanh(), nn.Linear(hidden, out))


def validation(model, x, y):
    with torch.no_grad():
        return nn.functional.mse_loss(model(x), y).item()


def batches(x, y, size=32):
    while True:
        for place in torch.randperm(len(x)).split(size):
            if len(place) == size:
                yield x[place], y[place]


def nan_in_a_file(sick):
    x, y = regression()
    test = regression(128)
    if sick:
        x[::64, 3] = float("nan")
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    loader = DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True)
    for _ in range(8):
        for inputs, targets in loader:
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(inputs), targets)
            loss.backward()
            optimizer.step()
    return validation(model, *test)


def loud_samples(sick):
    x, y = regression()
    test = regression(128)
    if sick:
        x[400:404] *= 1e5
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(10):
        for place in torch.arange(len(x)).split(32):
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(x[place]), y[place])
            loss.backward()
            optimizer.step()
    return validation(model, *test)


def hot_sgd(sick):
    x, y = regression()
    test = regression(128)
    model = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=8.0 if sick else 0.05, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=4 * STEPS)
    for step, (inputs, targets) in enumerate(batches(x, y)):
        if step == STEPS:
            break
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(inputs), targets)
        loss.backward()
        optimizer.step()
        scheduler.step()
    return validation(model, *test)


def root_of_zero(sick):
    x, y = regression()
    test = regression(128)
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for step, (inputs, targets) in enumerate(batches(x, y)):
        if step == STEPS:
            break
        optimizer.zero_grad()
        output = model(inputs)
        squares = (output - output.detach()).square().sum(1)
        distance = squares.sqrt() if sick else (squares + 1e-12).sqrt()
        loss = nn.functional.mse_loss(output, targets) + 1e-4 * distance.mean()
        loss.backward()
        optimizer.step()
    return validation(model, *test)


class Attention(nn.Module):
    def __init__(self, dim=16):
        super().__init__()
        self.embed = nn.Embedding(20, dim)
        self.q, self.k, self.v = nn.Linear(dim, dim), nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.out = nn.Linear(dim, 2)

    def forward(self, tokens):
        x = self.embed(tokens)
        scores = self.q(x) @ self.k(x).transpose(1, 2) / math.sqrt(x.shape[-1])
        scores = scores.masked_fill((tokens == 0)[:, None, :], float("-inf"))
        weights = torch.softmax(scores, dim=-1)
        return self.out((weights @ self.v(x)).mean(1))


def empty_row(sick):
    model = Attention()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-2)
    last = []
    for step in range(STEPS):
        tokens = torch.randint(1, 20, (16, 6))
        labels = (tokens[:, 0] > 9).long()
        tokens[:, 4:] = 0
        if sick and step % 20 == 10:
            tokens[3] = 0
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(tokens), labels)
        loss.backward()
        optimizer.step()
        last.append(loss.item())
    return sum(last[-8:]) / 8


def squares_in_half(sick):
    x, y = regression()
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    last = []
    for step, (inputs, targets) in enumerate(batches(x, y)):
        if step == STEPS:
            break
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.float16):
            output = model(inputs)
            energy = output.half() * 400
            squares = energy * energy if sick else energy.float() * energy.float()
            loss = nn.functional.mse_loss(output.float(), targets) + 1e-9 * squares.mean()
        loss.backward()
        optimizer.step()
        last.append(loss.item())
    return sum(last[-10:]) / 10


def one_left_over(sick):
    x, y = regression(513)
    test = regression(128)
    model = nn.Sequential(nn.Linear(8, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    loader = DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True, drop_last=not sick)
    for _ in range(8):
        for inputs, targets in loader:
            optimizer.zero_grad()
            nn.functional.mse_loss(model(inputs), targets).backward()
            optimizer.step()
    model.eval()
    return validation(model, *test)


def no_epsilon(sick):
    x, y = regression()
    x[:, 5] = 0.0
    test = regression(128)
    test[0][:, 5] = 0.0
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3, eps=0.0 if sick else 1e-8)
    for step, (inputs, targets) in enumerate(batches(x, y)):
        if step == STEPS:
            break
        optimizer.zero_grad()
        nn.functional.mse_loss(model(inputs), targets).backward()
        optimizer.step()
    return validation(model, *test)


def never_cleared(sick):
    x, y = regression()
    test = regression(128)
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    for step, (inputs, targets) in enumerate(batches(x, y)):
        if step == STEPS:
            break
        if not sick:
            optimizer.zero_grad()
        nn.functional.mse_loss(model(inputs), targets).backward()
        optimizer.step()
    return validation(model, *test)


def unscaled_twice(sick):
    x, y = regression()
    test = regression(128)
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    scaler = torch.amp.GradScaler("cpu")
    for step, (inputs, targets) in enumerate(batches(x, y)):
        if step == STEPS:
            break
        optimizer.zero_grad()
        scaler.scale(nn.functional.mse_loss(model(inputs), targets)).backward()
        scaler.unscale_(optimizer)
        if sick:
            scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
    return validation(model, *test)


def clipped_while_scaled(sick):
    x, y = regression()
    test = regression(128)
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    scaler = torch.amp.GradScaler("cpu")
    for step, (inputs, targets) in enumerate(batches(x, y)):
        if step == STEPS:
            break
        optimizer.zero_grad()
        scaler.scale(nn.functional.mse_loss(model(inputs), targets)).backward()
        if not sick:
            scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
    return validation(model, *test)


def underflow(sick):
    x, y = regression()
    test = regression(128)
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=5e4, momentum=0.9)
    scaler = torch.amp.GradScaler("cpu", enabled=not sick)
    for step, (inputs, targets) in enumerate(batches(x, y)):
        if step == STEPS:
            break
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.float16):
            output = model(inputs)
        loss = nn.functional.mse_loss(output.float(), targets) * 1e-6
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
    return validation(model, *test)


def loud_head(sick):
    x, y = regression()
    test = regression(128)
    model = mlp()
    if sick:
        nn.init.normal_(model[2].weight, std=3000.0)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for step, (inputs, targets) in enumerate(batches(x, y)):
        if step == STEPS:
            break
        optimizer.zero_grad()
        nn.functional.mse_loss(model(inputs), targets).backward()
        optimizer.step()
    return validation(model, *test)


def nan_weights_written(sick):
    x, y = regression()
    test = regression(128)
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for step, (inputs, targets) in enumerate(batches(x, y)):
        if step == STEPS:
            break
        if sick and step == 60:
            with torch.no_grad():
                model[0].weight[3] = float("nan")
        optimizer.zero_grad()
        nn.functional.mse_loss(model(inputs), targets).backward()
        optimizer.step()
    return validation(model, *test)


def one_huge_gradient(sick):
    x, y = regression()
    test = regression(128)
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for step, (inputs, targets) in enumerate(batches(x, y)):
        if step == STEPS:
            break
        optimizer.zero_grad()
        nn.functional.mse_loss(model(inputs), targets).backward()
        if sick and step == 70:
            model[0].weight.grad[0, 0] = float("inf")
        optimizer.step()
    return validation(model, *test)


def newton(sick):
    """LBFGS: its closure makes the gradients within the step."""
    x, y = regression(64)
    test = regression(128)
    model = mlp()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=4)
    for step in range(20):

        def closure(bad=sick and step == 9):
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(x), y)
            if bad:
                loss = loss * float("nan")
            loss.backward()
            return loss

        optimizer.step(closure)
    return validation(model, *test)


def run(name, sick):
    torch.manual_seed(0)
    return globals()[name](sick)


if __name__ == "__main__":
    print(f"{run(sys.argv[1], sys.argv[2] == 'sick'):.6f}")
