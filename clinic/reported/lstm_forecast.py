import argparse
import math

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

SEED = 0
LR = 6e-3
HORIZON = 4


def make_series(length, rng):
    t = np.arange(length)
    load = 12 + 3 * np.sin(2 * np.pi * t / 24) + 1.5 * np.sin(2 * np.pi * t / 84 + 1)
    load += 0.3 * rng.standard_normal(length)
    temperature = 15 + 8 * np.cos(2 * np.pi * t / 84) + rng.standard_normal(length)
    holiday = (t // 24 % 7 >= 5).astype(float)
    return np.stack([load, temperature, holiday], axis=1)


class Windows(Dataset):
    def __init__(self, table, window, horizon):
        self.table = torch.tensor(table, dtype=torch.float32)
        self.window = window
        self.horizon = horizon

    def __len__(self):
        return len(self.table) - self.window - self.horizon + 1

    def __getitem__(self, i):
        x = self.table[i : i + self.window]
        y = self.table[i + self.window : i + self.window + self.horizon, 0]
        return x, y


class Forecaster(nn.Module):
    def __init__(self, features=3, hidden=32, layers=1, horizon=HORIZON):
        super().__init__()
        self.rnn = nn.LSTM(features, hidden, layers, batch_first=True)
        self.norm = nn.LayerNorm(hidden)
        self.head = nn.Sequential(
            nn.Linear(hidden, 32),
            nn.ReLU(),
            nn.Linear(32, horizon),
        )
        self.reset_parameters()

    def reset_parameters(self):
        for name, p in self.rnn.named_parameters():
            if name.startswith("weight_hh"):
                nn.init.orthogonal_(p)
            elif name.startswith("bias_ih"):
                p.data[p.numel() // 4 : p.numel() // 2] = 1.0

    def forward(self, x):
        out, _ = self.rnn(x)
        last = self.norm(out[:, -1])
        return self.head(last)


def evaluate(model, loader, criterion):
    model.eval()
    total = 0.0
    with torch.no_grad():
        for x, y in loader:
            total += criterion(model(x), y).item() * len(x)
    return total / len(loader.dataset)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--window", type=int, default=36)
    parser.add_argument("--clip", type=float, default=1.0)
    args = parser.parse_args()

    torch.manual_seed(SEED)
    rng = np.random.default_rng(SEED)
    table = make_series(1700, rng)
    split = 1400
    mean, std = table[:split].mean(0), table[:split].std(0)
    table = (table - mean) / std
    train_set = Windows(table[:split], args.window, HORIZON)
    valid_set = Windows(table[split:], args.window, HORIZON)
    train_loader = DataLoader(train_set, batch_size=args.batch_size, shuffle=True, drop_last=True)
    valid_loader = DataLoader(valid_set, batch_size=128)

    model = Forecaster()
    criterion = nn.MSELoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=0.01)
    steps = args.epochs * len(train_loader)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=LR, total_steps=steps)

    for epoch in range(args.epochs):
        model.train()
        running = 0.0
        for x, y in train_loader:
            optimizer.zero_grad()
            prediction = model(x)
            loss = criterion(prediction, y)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), args.clip)
            optimizer.step()
            scheduler.step()
            running += loss.item()
        valid = evaluate(model, valid_loader, criterion)
        print(f"epoch {epoch} train {running / len(train_loader):.4f} valid {valid:.4f} rmse {math.sqrt(valid):.3f}")

    print(f"final valid loss {valid:.4f}")


if __name__ == "__main__":
    main()
