# How many claims will a policy make in its term? Poisson regression on a made-up motor portfolio.
import math

import numpy as np
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

SEED = 11
torch.manual_seed(SEED)
rng = np.random.default_rng(SEED)

# ---------------------------------------------------------------- data
N = 6000
region = rng.integers(0, 12, N)
model_code = rng.integers(0, 40, N)
age = rng.uniform(18, 90, N)
power = rng.gamma(4.0, 25.0, N)
mileage = rng.lognormal(9.3, 0.5, N)
exposure = rng.uniform(0.1, 1.0, N)

region_effect = rng.normal(0, 0.5, 12)
code_effect = rng.normal(0, 0.4, 40)
log_rate = (
    0.4 + region_effect[region] + code_effect[model_code] + 0.9 * ((age - 50) / 30) ** 2
    + 0.3 * (power - 100) / 50 + 0.5 * (np.log(mileage) - 9.3)
)  # fmt: skip
claims = rng.poisson(np.exp(log_rate) * exposure)

numeric = np.stack([age, power, mileage], axis=1)
numeric = (numeric - numeric.mean(0)) / numeric.std(0)

cat = torch.from_numpy(np.stack([region, model_code], axis=1))
num = torch.tensor(numeric, dtype=torch.float32)
expo = torch.tensor(exposure, dtype=torch.float32)
y = torch.tensor(claims, dtype=torch.float32)
train_set = TensorDataset(cat[:5000], num[:5000], expo[:5000], y[:5000])
valid = (cat[5000:], num[5000:], expo[5000:], y[5000:])
loader = DataLoader(train_set, batch_size=100, shuffle=True, num_workers=0)


# ---------------------------------------------------------------- model
class RateNet(nn.Module):
    def __init__(self, hidden=64):
        super().__init__()
        self.region = nn.Embedding(12, 4)
        self.code = nn.Embedding(40, 8)
        self.body = nn.Sequential(
            nn.Linear(4 + 8 + 3, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
        )
        self.rate = nn.Linear(hidden, 1)

    def forward(self, cat, num):
        x = torch.cat([self.region(cat[:, 0]), self.code(cat[:, 1]), num], dim=1)
        x = self.body(x)
        return self.rate(x).squeeze(1)


def poisson_nll(log_mu, y):
    return (log_mu.exp() - y * log_mu).mean()


net = RateNet()
opt = torch.optim.Adam(net.parameters(), lr=2e-3)

# ---------------------------------------------------------------- training
EPOCHS = 10
for epoch in range(EPOCHS):
    net.train()
    total = 0.0
    for cat_b, num_b, expo_b, y_b in loader:
        log_rate = net(cat_b, num_b)
        loss = poisson_nll(log_rate + expo_b.log(), y_b)
        opt.zero_grad()
        loss.backward()
        opt.step()
        total += loss.item()
    net.eval()
    with torch.no_grad():
        log_mu = net(valid[0], valid[1]) + valid[2].log()
        val = poisson_nll(log_mu, valid[3]).item()
    print(f"epoch {epoch}: train {total / len(loader):.4f}  valid {val:.4f}")

print("claims seen", int(valid[3].sum()), "expected", round(log_mu.exp().sum().item(), 1))
print(f"final nll {val:.4f}")
