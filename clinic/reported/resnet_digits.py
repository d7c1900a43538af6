"""Residual network on 8x8 digits."""

import math

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset

SEED = 0
LR = 0.05
EPOCHS = 5
BATCH = 64
WIDTH = 8


def load_data():
    digits = load_digits()
    x = digits.images.astype(np.float32)
    y = digits.target.astype(np.int64)
    order = np.random.default_rng(SEED).permutation(len(x))
    x, y = x[order], y[order]
    x = x / 16.0 - 0.3
    x = torch.from_numpy(x).unsqueeze(1)
    y = torch.from_numpy(y)
    return TensorDataset(x[:1408], y[:1408]), TensorDataset(x[1408:], y[1408:])


def norm(channels):
    return nn.BatchNorm2d(channels)


class Block(nn.Module):
    def __init__(self, c_in, c_out, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.norm1 = norm(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.norm2 = norm(c_out)
        self.short = nn.Conv2d(c_in, c_out, 1, stride) if c_in != c_out else nn.Identity()

    def forward(self, x):
        h = F.relu(self.norm1(self.conv1(x)))
        h = self.norm2(self.conv2(h))
        return F.relu(h + self.short(x))


class ResNet(nn.Module):
    def __init__(self, width=WIDTH, classes=10):
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, 1, 1)
        self.layers = nn.Sequential(Block(width, width), Block(width, 2 * width, 2), Block(2 * width, 2 * width))
        self.fc = nn.Linear(2 * width, classes)

    def forward(self, x):
        h = F.relu(self.stem(x))
        h = self.layers(h)
        h = h.mean(dim=(2, 3))
        return self.fc(h)


@torch.no_grad()
def evaluate(model, loader):
    model.eval()
    loss, right, n = 0.0, 0, 0
    for x, y in loader:
        out = model(x)
        loss += F.cross_entropy(out, y, reduction="sum").item()
        right += (out.argmax(1) == y).sum().item()
        n += len(y)
    model.train()
    return loss / n, right / n


def main():
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    train_set, val_set = load_data()
    train_loader = DataLoader(train_set, batch_size=BATCH, shuffle=True)
    val_loader = DataLoader(val_set, batch_size=256)
    model = ResNet()
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=0.9, weight_decay=1e-4)
    total = EPOCHS * len(train_loader)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: 0.5 * (1 + math.cos(math.pi * i / total)))
    step = 0
    for epoch in range(EPOCHS):
        for x, y in train_loader:
            out = model(x)
            loss = F.cross_entropy(out, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            step += 1
        print(f"epoch {epoch} step {step} loss {loss.item():.4f}")
    val_loss, accuracy = evaluate(model, val_loader)
    print(f"accuracy {accuracy:.3f}")
    print(f"final val loss {val_loss:.4f}")


if __name__ == "__main__":
    main()
