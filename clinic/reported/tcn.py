import argparse

import numpy as np
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, Dataset

SEED = 0
LR = 0.02

parser = argparse.ArgumentParser(description="forecast sensor curves with a temporal convolutional network")
parser.add_argument("--steps", type=int, default=240)
parser.add_argument("--batch-size", type=int, default=32)
parser.add_argument("--context", type=int, default=48)
parser.add_argument("--horizon", type=int, default=4)
parser.add_argument("--lr", type=float, default=LR)
args = parser.parse_args()


def make_series(count, length, rng):
    t = np.arange(length)
    rows = []
    for _ in range(count):
        period = rng.uniform(10, 30)
        phase = rng.uniform(0, 2 * np.pi)
        row = rng.uniform(0.7, 1.3) * np.sin(2 * np.pi * t / period + phase)
        row = row + 0.4 * np.sin(2 * np.pi * t / (period / 3) + 2 * phase)
        row = row + 0.05 * rng.randn(length)
        rows.append(row)
    return np.stack(rows).astype(np.float32)


class WindowDataset(Dataset):
    def __init__(self, series, context, horizon):
        self.series = series
        self.context = context
        self.horizon = horizon
        last = series.shape[1] - context - horizon
        self.index = [(i, s) for i in range(len(series)) for s in range(0, last + 1, 4)]

    def __len__(self):
        return len(self.index)

    def __getitem__(self, k):
        i, s = self.index[k]
        window = self.series[i, s:s + self.context]
        target = self.series[i, s + self.context:s + self.context + self.horizon]
        return torch.from_numpy(window.copy()).unsqueeze(0), torch.from_numpy(target.copy())


class CausalConv(nn.Module):
    def __init__(self, c_in, c_out, kernel, dilation):
        super().__init__()
        self.pad = (kernel - 1) * dilation
        self.conv = nn.Conv1d(c_in, c_out, kernel, dilation=dilation)

    def forward(self, x):
        return self.conv(nn.functional.pad(x, (self.pad, 0)))


class TemporalBlock(nn.Module):
    def __init__(self, c_in, c_out, dilation):
        super().__init__()
        self.conv1 = CausalConv(c_in, c_out, 3, dilation)
        self.bn1 = nn.BatchNorm1d(c_out)
        self.conv2 = CausalConv(c_out, c_out, 3, dilation)
        self.bn2 = nn.BatchNorm1d(c_out)
        self.skip = nn.Conv1d(c_in, c_out, 1) if c_in != c_out else nn.Identity()

    def forward(self, x):
        out = torch.relu(self.bn1(self.conv1(x)))
        out = torch.relu(self.bn2(self.conv2(out)))
        return out + self.skip(x)


class TCN(nn.Module):
    def __init__(self, horizon, channels=(12, 12, 16)):
        super().__init__()
        layers = []
        c_in = 1
        for k, c in enumerate(channels):
            layers.append(TemporalBlock(c_in, c, 2 ** k))
            c_in = c
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(c_in, horizon)

    def forward(self, x):
        h = self.body(x)
        h = h[:, :, -1]
        return self.head(h)


def evaluate(model, loader):
    model.eval()
    losses = []
    with torch.no_grad():
        for x, y in loader:
            losses.append(((model(x) - y) ** 2).mean().item())
    model.train()
    return float(np.mean(losses))


def cycle(loader):
    while True:
        for batch in loader:
            yield batch


torch.manual_seed(SEED)
rng = np.random.RandomState(SEED)
train_series = make_series(96, 200, rng)
test_series = make_series(6, 200, rng)
train_set = WindowDataset(train_series, args.context, args.horizon)
test_set = WindowDataset(test_series, args.context, args.horizon)
train_loader = DataLoader(train_set, batch_size=args.batch_size, shuffle=True)
test_loader = DataLoader(test_set, batch_size=128)

model = TCN(args.horizon)
criterion = nn.MSELoss()
optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=args.steps)

model.train()
batches = cycle(train_loader)
for step in range(args.steps):
    x, y = next(batches)
    optimizer.zero_grad()
    pred = model(x)
    loss = criterion(pred, y)
    loss.backward()
    optimizer.step()
    scheduler.step()
    if step % 40 == 0:
        print(f"[{step}/{args.steps}] mse={loss.item():.4f}")

final = evaluate(model, test_loader)
print(f"final test mse {final:.5f}")
