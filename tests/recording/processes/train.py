"""A small training with a DataLoader that has workers: `python train.py LR`, or started by workers.py."""

import sys

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def train(lr, fail=False):
    torch.manual_seed(0)
    net = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(net.parameters(), lr=lr)
    for (x,) in DataLoader(TensorDataset(torch.randn(12, 3)), batch_size=4, num_workers=1):
        optimizer.zero_grad()
        (net(x) - 1).pow(2).mean().backward()
        optimizer.step()
    if fail:
        raise ValueError("no more data")


if __name__ == "__main__":
    train(float(sys.argv[1]))
