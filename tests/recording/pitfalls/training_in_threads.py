import threading

import torch
from torch import nn

results = {}


def train(number):
    generator = torch.Generator().manual_seed(number)
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    for _ in range(40):
        x = torch.randn(8, 4, generator=generator)
        optimizer.zero_grad()
        (net(x) - x.sum(1, keepdim=True)).pow(2).mean().backward()
        optimizer.step()
    net(x)  # a forward that no backward follows
    results[number] = sum(parameter.sum().item() for parameter in net.parameters())


threads = [threading.Thread(target=train, args=(number,)) for number in range(3)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(sorted(results.items()))
