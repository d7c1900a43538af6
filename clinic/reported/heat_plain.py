"""Fits u_t = a u_xx on a rod, with a network made of plain tensors, and finds the diffusivity a from few readings."""
import math

import torch

SEED = 0
LR = 5e-3
SIZES = [2, 32, 32, 32, 1]
TRUE_A = 0.1
POINTS = 128
STEPS = 320

torch.manual_seed(SEED)


def exact(xt):
    x, t = xt[:, :1], xt[:, 1:]
    return torch.exp(-TRUE_A * math.pi**2 * t) * torch.sin(math.pi * x)


def glorot(fan_in, fan_out):
    return torch.randn(fan_in, fan_out) * math.sqrt(2.0 / (fan_in + fan_out))


weights = [glorot(a, b).requires_grad_() for a, b in zip(SIZES, SIZES[1:])]
biases = [torch.zeros(b, requires_grad=True) for b in SIZES[1:]]
log_a = torch.tensor(math.log(0.5), requires_grad=True)
params = [*weights, *biases, log_a]


def net(xt):
    h = 2 * xt - 1
    for w, b in zip(weights[:-1], biases[:-1]):
        h = torch.tanh(h @ w + b)
    return h @ weights[-1] + biases[-1]


def residual(xt):
    xt = xt.clone().requires_grad_()
    u = net(xt)
    first = torch.autograd.grad(u.sum(), xt, create_graph=True)[0]
    u_x, u_t = first[:, :1], first[:, 1:]
    u_xx = torch.autograd.grad(u_x.sum(), xt, create_graph=True)[0][:, :1]
    return u_t - log_a.exp() * u_xx


readings = torch.rand(200, 2)
values = exact(readings) + 0.01 * torch.randn(200, 1)
edge_x = torch.cat([torch.zeros(40, 1), torch.ones(40, 1)])
edge = torch.cat([edge_x, torch.rand(80, 1)], dim=1)

optimizer = torch.optim.Adam(params, lr=LR)
track = []
for step in range(STEPS):
    optimizer.zero_grad()
    inside = torch.rand(POINTS, 2)
    physics = residual(inside).pow(2).mean()
    data = (net(readings) - values).pow(2).mean()
    border = net(edge).pow(2).mean()
    loss = 0.05 * physics + data + border
    loss.backward()
    optimizer.step()
    track.append(loss.item())
    if step % 40 == 0:
        print(f"{step:4d}  loss {loss.item():.5f}  data {data.item():.5f}  a {log_a.exp().item():.4f}")

print(f"final loss {sum(track[-20:]) / 20:.5f}")
