import argparse
import math

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

SEED = 0
LR = 2e-3

parser = argparse.ArgumentParser(description="predict the log-area of a padded point cloud")
parser.add_argument("--sets", type=int, default=1024)
parser.add_argument("--max-points", type=int, default=16)
parser.add_argument("--min-points", type=int, default=4)
parser.add_argument("--batch-size", type=int, default=32)
parser.add_argument("--epochs", type=int, default=5)
parser.add_argument("--hidden", type=int, default=48)
args = parser.parse_args()


def make_clouds(n, generator):
    sizes = torch.randint(args.min_points, args.max_points + 1, (n,), generator=generator)
    scale = torch.rand(n, 1, 2, generator=generator) * 1.5 + 0.1
    angle = torch.rand(n, generator=generator) * math.pi
    turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], -1).view(n, 2, 2)
    points = torch.randn(n, args.max_points, 2, generator=generator) * scale @ turn
    mask = torch.arange(args.max_points)[None, :] < sizes[:, None]
    points = points * mask[..., None]
    target = torch.log(scale.prod(-1).squeeze(1))
    return points, mask, target


def collate(points, mask):
    centre = points.sum(1, keepdim=True) / mask.sum(1).clamp(min=1)[:, None, None]
    local = (points - centre) * mask[..., None]
    radius = torch.sqrt((local**2).sum(-1, keepdim=True) + 1e-8)
    return torch.cat([local, radius], -1)


class Phi(nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.fc1 = nn.Linear(3, hidden)
        self.fc2 = nn.Linear(hidden, hidden)

    def forward(self, x):
        return F.relu(self.fc2(F.relu(self.fc1(x))))


class AttentionPool(nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.score = nn.Linear(hidden, 1)

    def forward(self, h, mask):
        score = self.score(h).squeeze(-1)
        score = score.masked_fill(~mask, float("-inf"))
        weight = torch.softmax(score, dim=1)
        return (weight[..., None] * h).sum(1)


class SetRegressor(nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.phi = Phi(hidden)
        self.pool = AttentionPool(hidden)
        self.rho = nn.Sequential(nn.Linear(2 * hidden, hidden), nn.ReLU(), nn.Linear(hidden, 1))

    def forward(self, x, mask):
        h = self.phi(x)
        mean = (h * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
        pooled = torch.cat([self.pool(h, mask), mean], -1)
        return self.rho(pooled).squeeze(-1)


def evaluate(model, loader):
    model.eval()
    with torch.no_grad():
        losses = [F.smooth_l1_loss(model(collate(p, m), m), t).item() for p, m, t in loader]
    model.train()
    return sum(losses) / len(losses)


def train():
    torch.manual_seed(SEED)
    generator = torch.Generator().manual_seed(SEED)
    points, mask, target = make_clouds(args.sets, generator)
    mean, std = target.mean(), target.std()
    target = (target - mean) / std
    loader = DataLoader(TensorDataset(points, mask, target), batch_size=args.batch_size, shuffle=True)
    held_points, held_mask, held_target = make_clouds(256, generator)
    held = DataLoader(TensorDataset(held_points, held_mask, (held_target - mean) / std), batch_size=64)

    model = SetRegressor(args.hidden)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR)
    step = 0
    for epoch in range(args.epochs):
        for p, m, t in loader:
            x = collate(p, m)
            loss = F.smooth_l1_loss(model(x, m), t)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if step % 64 == 0:
                print(f"[{epoch}] step {step:4d} loss {loss.item():.4f}")
            step += 1
    print(f"final {evaluate(model, held):.4f}")


train()
