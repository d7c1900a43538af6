"""Sensor data with gaps: NaN in the files, masked out before it meets a weight; a metric is NaN now and then."""
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


@dataclass
class Reading:
    values: torch.Tensor
    target: torch.Tensor


class Sensors(Dataset):
    def __init__(self, n):
        self.values = torch.randn(n, 8)
        self.target = self.values[:, :3].sum(1)
        self.values[torch.rand(n, 8) < 0.05] = float("nan")
        self.target[::7] = float("nan")

    def __len__(self):
        return len(self.values)

    def __getitem__(self, i):
        return Reading(self.values[i], self.target[i])


def collate(readings):
    return Reading(torch.stack([r.values for r in readings]), torch.stack([r.target for r in readings]))


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(16, 32), nn.Tanh(), nn.Linear(32, 1))

    def forward(self, reading):
        missing = torch.isnan(reading.values)
        values = torch.nan_to_num(reading.values, nan=0.0)
        return self.net(torch.cat([values, missing.float()], 1)).squeeze(1)


torch.manual_seed(23)
model = Model()
optimizer = torch.optim.RMSprop(model.parameters(), lr=3e-3)
for epoch in range(3):
    for reading in DataLoader(Sensors(96), batch_size=16, shuffle=True, collate_fn=collate):
        known = ~torch.isnan(reading.target)
        prediction = model(reading)
        loss = nn.functional.huber_loss(prediction[known], reading.target[known])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            raw = (prediction - reading.target).abs().mean().item()
        print(epoch, f"loss {loss.item():.4f} raw error {raw}")
print("checksum", model.net[0].weight.sum().item())
