"""A regression that writes scalars by torch.utils.tensorboard; one target in the data is wildly off in the sick run."""

import sys

import torch
from torch import nn
from torch.utils.tensorboard import SummaryWriter

SICK = sys.argv[1] == "sick"
torch.manual_seed(0)
x = torch.randn(400, 8)
y = x[:, :1] * 2 + x[:, 1:2].sin()
if SICK:
    y[200:] *= 1e5
model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05 if SICK else 0.02)
writer = SummaryWriter("events")
step = 0
for _epoch in range(10):
    for rows in torch.arange(400).split(40):
        loss = (model(x[rows]) - y[rows]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.get_total_norm([p.grad for p in model.parameters()])
        optimizer.step()
        writer.add_scalar("Loss/train", loss.item(), step)
        writer.add_scalar("grad_norm", norm, step)
        writer.add_scalar("lr", optimizer.param_groups[0]["lr"], step)
        step += 1
    with torch.no_grad():
        writer.add_scalar("Loss/val", (model(x[:100]) - y[:100]).square().mean().item(), step)
writer.close()
