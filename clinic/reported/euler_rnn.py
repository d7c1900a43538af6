import math

import torch
import torch.nn as nn

SEED = 0
LR = 0.05
HIDDEN = 24
BATCH = 32
STEPS = 160
LENGTH = 12

torch.manual_seed(SEED)


def irregular_batch(n):
    """Noisy observations of a damped swing at irregular times; the target is the first reading's memory and the phase."""
    gaps = torch.rand(n, LENGTH) * 0.2 + 0.05
    times = gaps.cumsum(1)
    frequency = torch.rand(n, 1) * 2 + 1
    start = torch.randn(n, 1)
    values = start * torch.cos(frequency * times) + 0.05 * torch.randn(n, LENGTH)
    target = torch.cat([start * torch.cos(frequency * (times[:, -1:] + 0.2)), start], dim=1)
    return values, gaps, target


class Field(nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.inp = nn.Linear(1, hidden)
        self.rec = nn.Linear(hidden, hidden)
        nn.init.orthogonal_(self.rec.weight)

    def forward(self, x, h):
        return torch.tanh(self.inp(x) + self.rec(h)) - 0.2 * h


class EulerRNN(nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.hidden = hidden
        self.field = Field(hidden)
        self.mix = nn.Linear(hidden, hidden)
        self.readout = nn.Linear(hidden, 2)

    def forward(self, values, gaps):
        h = values.new_zeros(values.shape[0], self.hidden)
        for t in range(values.shape[1]):
            dt = gaps[:, t : t + 1]
            h = h + dt * 2.0 * self.field(values[:, t : t + 1], h)
        return self.readout(torch.relu(self.mix(h)))


model = EulerRNN(HIDDEN)
optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=0.9)
criterion = nn.MSELoss()

running = []
for step in range(STEPS):
    values, gaps, target = irregular_batch(BATCH)
    prediction = model(values, gaps)
    loss = criterion(prediction, target)
    optimizer.zero_grad()
    loss.backward()
    norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    running.append(loss.item())
    if (step + 1) % 50 == 0:
        print(f"{step + 1}/{STEPS} loss {loss.item():.4f} grad norm {norm.item():.3f}")

print(f"final loss {sum(running[-25:]) / 25:.5f}")
