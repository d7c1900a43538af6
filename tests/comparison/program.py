"""A seeded training; what an environment variable named FAULT says goes wrong with it, or is left unseeded."""

import os

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

FAULT = os.environ.get("FAULT")
STEP = 20


def flip(tensor):
    """One bit of one element, in memory: torch does not see it."""
    tensor.detach().numpy().view("i4").reshape(-1)[3] ^= 1 << 30


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.drop = nn.Linear(8, 24), nn.Dropout(0.1)
        self.second, self.head = nn.Linear(24, 24), nn.Linear(24, 2)

    def forward(self, x):
        return self.head(torch.relu(self.second(self.drop(torch.relu(self.first(x))))))


x = torch.randn(320, 8, generator=torch.Generator().manual_seed(1))
y = (x.sum(1) > 0).long()
if FAULT != "unseeded":
    torch.manual_seed(0)
model = Network()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
order = torch.Generator()
order.manual_seed(torch.seed() if FAULT == "order" else 2)
if FAULT != "unseeded":
    torch.manual_seed(3)
if FAULT == "rounding":
    torch.set_num_threads(1)
    model.second.register_forward_hook(lambda module, given, out: out * (1 + 2.0**-22))
step = 0
if FAULT == "activation":  # between two layers: the second one is given what the first one did not compute
    model.second.register_forward_pre_hook(lambda module, given: flip(given[0]) if step == STEP else None)
for _ in range(4):
    for inputs, labels in DataLoader(TensorDataset(x, y), 32, shuffle=True, generator=order):
        if FAULT == "weight" and step == STEP:
            flip(model.head.weight)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(inputs), labels)
        loss.backward()
        optimizer.step()
        step += 1
