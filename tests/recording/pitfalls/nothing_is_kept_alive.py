import weakref

import torch
from torch import nn

for round in range(3):
    torch.manual_seed(round)
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(inplace=True), nn.Linear(8, 1))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(5):
        x = torch.randn(8, 4)
        out = net(x)
        loss = out.pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        seen = [weakref.ref(thing) for thing in (x, out, loss)]
        del x, out, loss
        print([thing() is None for thing in seen])
        optimizer.step()
    things = [weakref.ref(thing) for thing in (net, optimizer, net[0].weight, net[0].weight.grad)]
    del net, optimizer
    print([thing() is None for thing in things])
for _ in range(3):
    net = nn.Linear(4, 1)
    out = net(torch.full((2, 4), float("nan")))
    loss = out.sum()
    seen = [weakref.ref(loss), weakref.ref(out), weakref.ref(net)]
    if torch.isnan(loss):
        del loss, out, net
    print([thing() is None for thing in seen])
