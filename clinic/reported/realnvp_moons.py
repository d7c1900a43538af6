import math
from types import SimpleNamespace

import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import make_moons

SEED = 0
LR = 3e-3

hp = SimpleNamespace(flows=6, hidden=48, batch=128, iters=260, clip=5.0, n=2000)


class Coupling(nn.Module):
    def __init__(self, hidden, flip):
        super().__init__()
        self.flip = flip
        self.fc1 = nn.Linear(1, hidden)
        self.fc2 = nn.Linear(hidden, hidden)
        self.fc3 = nn.Linear(hidden, 2)

    def forward(self, x):
        a, b = x.chunk(2, dim=1)
        if self.flip:
            a, b = b, a
        h = F.relu(self.fc1(a))
        h = F.relu(self.fc2(h))
        s, t = self.fc3(h).chunk(2, dim=1)
        s = torch.tanh(s)
        b = b * torch.exp(s) + t
        if self.flip:
            a, b = b, a
        return torch.cat([a, b], dim=1), s.sum(dim=1)


class RealNVP(nn.Module):
    def __init__(self, flows, hidden):
        super().__init__()
        self.flows = nn.ModuleList([Coupling(hidden, i % 2 == 1) for i in range(flows)])

    def forward(self, x):
        logdet = torch.zeros(len(x))
        for flow in self.flows:
            x, d = flow(x)
            logdet = logdet + d
        return x, logdet


def log_prob(z, logdet):
    log_pz = -0.5 * (z**2).sum(dim=1) - math.log(2 * math.pi)
    return log_pz + logdet


def get_data(n):
    x, _ = make_moons(n, noise=0.07, random_state=SEED)
    x = torch.tensor(x, dtype=torch.float32)
    return (x - x.mean(0)) / x.std(0)


def batches(data, size):
    while True:
        order = torch.randperm(len(data))
        for i in range(0, len(data) - size + 1, size):
            yield data[order[i : i + size]]


torch.manual_seed(SEED)
data = get_data(hp.n)
train, valid = data[: hp.n * 4 // 5], data[hp.n * 4 // 5 :]

model = RealNVP(hp.flows, hp.hidden)
opt = torch.optim.Adam(model.parameters(), lr=LR)
sched = torch.optim.lr_scheduler.CosineAnnealingLR(opt, hp.iters)
stream = batches(train, hp.batch)

model.train()
for it in range(hp.iters):
    x = next(stream)
    z, logdet = model(x)
    loss = -log_prob(z, logdet).mean()
    opt.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), hp.clip)
    opt.step()
    sched.step()
    if it % 40 == 0:
        print("iter", it, "nll", round(loss.item(), 4))

model.eval()
with torch.no_grad():
    z, logdet = model(valid)
    nll = -log_prob(z, logdet).mean().item()
print(f"final nll {nll:.4f}")
