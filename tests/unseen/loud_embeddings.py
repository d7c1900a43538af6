"""Factorisation machine of third order; the tables were drawn with the variance taken for the inverse."""
import torch
from torch import nn


class Interaction(nn.Module):
    def __init__(self, fields, rows, rank):
        super().__init__()
        self.tables = nn.ParameterList([nn.Parameter(torch.randn(rows, rank) / (1 / rows) ** 4) for _ in range(fields)])

    def forward(self, ids):
        vectors = torch.stack([table[ids[:, i]] for i, table in enumerate(self.tables)], dim=1)
        first = vectors.sum(1)
        return first, (first**3 - (vectors**3).sum(1)) / 6


class Machine(nn.Module):
    def __init__(self):
        super().__init__()
        self.interaction = Interaction(4, 50, 8)
        self.mix = nn.Linear(16, 1)

    def forward(self, ids):
        return self.mix(torch.cat(self.interaction(ids), dim=1)).squeeze(1)


def main():
    torch.manual_seed(64)
    machine = Machine()
    optimizer = torch.optim.Adam(machine.parameters(), lr=1e-2)
    for step in range(12):
        ids = torch.randint(0, 50, (32, 4))
        clicks = (ids.sum(1) > 100).float()
        loss = torch.mean((machine(ids) - clicks) ** 2)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print("step", step, loss.item())


main()
