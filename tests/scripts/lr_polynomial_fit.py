# Fit a wiggly curve with a linear layer on top of Fourier features.
import math

import torch
from torch import nn

torch.manual_seed(3)
x = torch.rand(256, 1) * 4 - 2
y = torch.sin(2 * x) + 0.3 * torch.cos(5 * x)
frequencies = torch.arange(1, 13).float()
features = torch.cat([torch.sin(x * frequencies), torch.cos(x * frequencies)], dim=1)

model = nn.Linear(24, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=1.2)

for epoch in range(25):
    order = torch.randperm(256)
    total = 0.0
    for start in range(0, 256, 64):
        index = order[start : start + 64]
        prediction = model(features[index])
        error = prediction - y[index]
        loss = (error * error).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    print(f"epoch {epoch} loss {total / 4:.6g}")

# a rough checksum of what was learned
print("weight sum", model.weight.sum().item(), math.isnan(total))
