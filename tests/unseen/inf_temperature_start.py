"""Prototype classifier whose temperatures start from a table; an entry of the table is 0 and its inverse is kept."""
import torch
from torch import nn


class Prototypes(nn.Module):
    def __init__(self, classes, width):
        super().__init__()
        self.centres = nn.Parameter(torch.randn(classes, width))
        spread = torch.tensor([1.0, 0.5, 0.0, 2.0])
        self.inverse = nn.Parameter(1.0 / spread)

    def forward(self, h):
        return -torch.cdist(h, self.centres) * self.inverse


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential()
        self.backbone.add_module("in", nn.Linear(5, 12))
        self.backbone.add_module("act", nn.Softsign())
        self.tail = nn.ModuleDict({"proto": Prototypes(4, 12)})

    def forward(self, x):
        return self.tail["proto"](self.backbone(x))


def train(network, steps=8):
    optimizer = torch.optim.SGD(network.parameters(), lr=0.02)
    for _ in range(steps):
        x = torch.randn(12, 5)
        loss = nn.functional.cross_entropy(network(x), x[:, :4].argmax(1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield loss.item()


torch.manual_seed(3)
for number, value in enumerate(train(Network())):
    print(number, value)
