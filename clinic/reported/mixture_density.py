"""Mixture density network for house prices by year, area and distance (synthetic)."""
import math

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

SEED = 0
LR = 2e-3
COMPONENTS = 4
WIDTH = 64


def load_table(n, gen):
    year = torch.randint(1950, 2021, (n,), generator=gen).float()
    area = torch.rand(n, generator=gen) * 180 + 20
    distance = torch.rand(n, generator=gen) * 30
    kind = torch.randint(0, 2, (n,), generator=gen).float()
    age = (2021 - year) / 35
    price = area / 60 * (1.5 - 0.3 * age) * torch.where(kind > 0, 1.6, 0.8) - 0.03 * distance
    price = price + 0.15 * torch.randn(n, generator=gen)
    return torch.stack([year, area, distance], dim=1), price[:, None]


def standardise(x):
    return (x - x.mean(0)) / x.std(0)


class Trunk(nn.Module):
    def __init__(self, features):
        super().__init__()
        self.fc1 = nn.Linear(features, WIDTH)
        self.fc2 = nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        x = torch.relu(self.fc1(x))
        return torch.relu(self.fc2(x))


class MDN(nn.Module):
    def __init__(self, features):
        super().__init__()
        self.trunk = Trunk(features)
        self.pi = nn.Linear(WIDTH, COMPONENTS)
        self.mu = nn.Linear(WIDTH, COMPONENTS)
        self.log_sigma = nn.Linear(WIDTH, COMPONENTS)

    def forward(self, x):
        h = self.trunk(x)
        log_pi = torch.log_softmax(self.pi(h), dim=-1)
        return log_pi, self.mu(h), self.log_sigma(h).clamp(-4, 4)


def nll(log_pi, mu, log_sigma, y):
    z = (y - mu) * torch.exp(-log_sigma)
    log_prob = -0.5 * z**2 - log_sigma - 0.5 * math.log(2 * math.pi)
    return -torch.logsumexp(log_pi + log_prob, dim=-1).mean()


def validate(model, loader):
    model.eval()
    with torch.no_grad():
        parts = [(nll(*model(x), y).item(), len(x)) for x, y in loader]
    model.train()
    return sum(value * count for value, count in parts) / sum(count for _, count in parts)


if __name__ == "__main__":
    torch.manual_seed(SEED)
    gen = torch.Generator().manual_seed(SEED)
    features, price = load_table(1600, gen)
    data = TensorDataset(standardise(features), standardise(price))
    train_part, val_part = random_split(data, [1280, 320], generator=gen)
    train_loader = DataLoader(train_part, batch_size=32, shuffle=True)
    val_loader = DataLoader(val_part, batch_size=160)

    model = MDN(features.shape[1])
    optimizer = torch.optim.Adam(model.parameters(), lr=LR)
    for epoch in range(8):
        total = 0.0
        for x, y in train_loader:
            optimizer.zero_grad()
            loss = nll(*model(x), y)
            loss.backward()
            optimizer.step()
            total += loss.item()
        print(f"epoch {epoch}: train nll {total / len(train_loader):.4f}")
    print(f"final val nll {validate(model, val_loader):.4f}")
