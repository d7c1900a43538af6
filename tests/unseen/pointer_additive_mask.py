"""Pointer network: an additive float mask of -inf over the cities that were visited; once all of them are."""
import torch
from torch import nn


class Pointer(nn.Module):
    def __init__(self, width=20):
        super().__init__()
        self.cities = nn.Linear(2, width)
        self.cell = nn.GRUCell(width, width)
        self.query = nn.Linear(width, width, bias=False)
        self.energy = nn.Linear(width, 1, bias=False)

    def forward(self, places, tour, open_at_start):
        keys = self.cities(places)
        state = keys.mean(1)
        mask = torch.zeros(places.shape[:2]).masked_fill(~open_at_start, -torch.inf)
        rows = torch.arange(len(places))
        surprise = 0.0
        for stop in tour.unbind(1):
            energy = self.energy(torch.tanh(keys + self.query(state)[:, None])).squeeze(-1)
            chances = nn.functional.softmax(energy + mask, dim=1)
            surprise = surprise - (chances[rows, stop] + 1e-9).log()
            state = self.cell((chances[..., None] * keys).sum(1), state)
            mask = mask.scatter(1, stop[:, None], -torch.inf)
        return surprise.mean()


torch.manual_seed(33)
pointer = Pointer()
optimizer = torch.optim.Adam(pointer.parameters(), lr=5e-3, eps=1e-7)
for day in range(18):
    places = torch.rand(10, 6, 2)
    tour = places[..., 0].argsort(1)[:, :3]
    open_at_start = torch.ones(10, 6, dtype=torch.bool)
    if day == 11:
        open_at_start[7] = False
        open_at_start[7, tour[7, :2]] = True  # two places, three stops
    loss = pointer(places, tour, open_at_start)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    print("day", day, "surprise", loss.item())
print("checksum", pointer.energy.weight.sum().item())
