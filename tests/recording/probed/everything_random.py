"""Dropout, BatchNorm, accumulation, loader workers, random numbers, a counter in shared memory, shared weights."""

import multiprocessing
import random
import threading
import time

import numpy
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

torch.manual_seed(0)
random.seed(0)
numpy.random.seed(0)


class Rows(Dataset):
    def __len__(self):
        return 96

    def __getitem__(self, place):
        x = torch.randn(6, generator=torch.Generator().manual_seed(place))
        return x, x.sum().sign().clamp(0).long()


seen = multiprocessing.Value("i", 0)
threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()  # a progress bar has one
net = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 2))
net.share_memory()
optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
source = open(__file__)
lines = 0
for _ in range(4):
    for number, (x, y) in enumerate(DataLoader(Rows(), batch_size=8, shuffle=True, num_workers=2)):
        x.mul_(2)
        out = net(x + 0.01 * random.random() + 0.01 * numpy.random.rand())
        x.mul_(3)  # in shared memory of a worker
        with seen.get_lock():
            seen.value += 1
        lines += len(source.readline())
        loss = nn.functional.cross_entropy(out + torch.rand(1), y) / 2
        loss.backward()
        if number % 2:
            optimizer.step()
            optimizer.zero_grad()
print(seen.value, lines, [p.double().sum().item() for p in (*net.parameters(), *net.buffers())])
print(random.random(), numpy.random.rand(), torch.rand(1).item())
