"""Recognises activities in windows of a wearable sensor (accelerometer and gyroscope)."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

SEED = 0
LR = 0.02
CLASSES = 5
LENGTH = 64


@dataclass
class Config:
    epochs: int = 10
    batch_size: int = 32
    momentum: float = 0.9
    weight_decay: float = 1e-4
    clip: float = 5.0
    log_every: int = 40


def simulate(count, rng):
    labels = rng.integers(0, CLASSES, count)
    time = np.arange(LENGTH) / 32.0
    frequency = np.array([0.4, 1.1, 1.9, 2.7, 1.9])[labels]
    strength = np.array([0.6, 2.0, 3.5, 2.5, 1.2])[labels]
    phase = rng.uniform(0, 2 * np.pi, count)
    wave = np.sin(2 * np.pi * frequency[:, None] * time + phase[:, None]) * strength[:, None]
    signals = np.zeros((count, 6, LENGTH), dtype=np.float32)
    for axis in range(3):
        signals[:, axis] = wave * (0.5 + 0.3 * axis) + rng.normal(0, 2.0, (count, LENGTH))
        signals[:, 3 + axis] = 40 * np.gradient(wave, axis=1) * (1 - 0.2 * axis) + rng.normal(0, 60, (count, LENGTH))
    signals[:, 2] += 9.81
    lost = rng.random(count) < 0.02
    signals[lost, 1, 10:14] = np.nan
    return signals, labels


class Windows(Dataset):
    def __init__(self, count, seed, mean=None, std=None):
        signals, labels = simulate(count, np.random.default_rng(seed))
        signals = np.where(np.isnan(signals), 0.0, signals)
        self.mean = signals.mean(axis=(0, 2), keepdims=True) if mean is None else mean
        self.std = signals.std(axis=(0, 2), keepdims=True) if std is None else std
        signals = (signals - self.mean) / self.std
        self.signals = torch.tensor(signals, dtype=torch.float32)
        self.labels = torch.tensor(labels)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return self.signals[index], self.labels[index]


class SensorNet(nn.Module):
    def __init__(self, width=24):
        super().__init__()
        self.conv1 = nn.Conv1d(6, width, 7, padding=3)
        self.conv2 = nn.Conv1d(width, width, 5, padding=2)
        self.conv3 = nn.Conv1d(width, 2 * width, 3, padding=1)
        self.pool = nn.MaxPool1d(2)
        self.norm = nn.BatchNorm1d(2 * width)
        self.head = nn.Linear(2 * width, CLASSES)

    def forward(self, x):
        x = self.pool(torch.relu(self.conv1(x)))
        x = self.pool(torch.relu(self.conv2(x)))
        x = torch.relu(self.conv3(x))
        x = self.norm(x.mean(dim=2))
        return self.head(x)


class Trainer:
    def __init__(self, model, config, train_set, val_set):
        self.model, self.config = model, config
        self.train_loader = DataLoader(train_set, batch_size=config.batch_size, shuffle=True, drop_last=True)
        self.val_loader = DataLoader(val_set, batch_size=128)
        self.criterion = nn.CrossEntropyLoss()
        self.optimizer = torch.optim.SGD(
            model.parameters(), lr=LR, momentum=config.momentum, weight_decay=config.weight_decay
        )
        self.step = 0

    def train_step(self, x, y):
        self.optimizer.zero_grad()
        loss = self.criterion(self.model(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip)
        self.optimizer.step()
        return loss.item()

    @torch.no_grad()
    def evaluate(self):
        self.model.eval()
        total, right, seen = 0.0, 0, 0
        for x, y in self.val_loader:
            logits = self.model(x)
            total += nn.functional.cross_entropy(logits, y, reduction="sum").item()
            right += (logits.argmax(1) == y).sum().item()
            seen += len(y)
        return total / seen, right / seen

    def fit(self):
        for epoch in range(self.config.epochs):
            self.model.train()
            for x, y in self.train_loader:
                loss = self.train_step(x, y)
                if self.step % self.config.log_every == 0:
                    print(f"step {self.step} loss {loss:.4f}")
                self.step += 1
            val_loss, accuracy = self.evaluate()
            print(f"epoch {epoch} val_loss {val_loss:.4f} accuracy {accuracy:.3f}")
        return val_loss


def main():
    torch.manual_seed(SEED)
    train_set = Windows(1000, SEED + 1)
    val_set = Windows(300, SEED + 2, train_set.mean, train_set.std)
    trainer = Trainer(SensorNet(), Config(), train_set, val_set)
    final = trainer.fit()
    print(f"final val loss {final:.4f}")


if __name__ == "__main__":
    main()
