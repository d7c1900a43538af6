"""Far too high a learning rate; a guard that raises, one that skips; a file that grows between forward and backward."""

import atexit
import os

import torch
from torch import nn

torch.manual_seed(0)
atexit.register(lambda: print("exit", flush=True))
log = open("log.txt", "a", buffering=1)
net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.SGD(net.parameters(), lr=0.2)
for step in range(12):
    x = torch.randn(16, 4)
    optimizer.param_groups[0]["lr"] = 0.01 if step < 5 else 5.0
    try:
        loss = net(x).exp().mean() + net(-x).pow(2).mean()
        print("loss", loss.item(), file=log)
        if loss.item() > 50:
            raise ValueError("too large")
        if not torch.isfinite(loss):
            continue
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    except ValueError as error:
        print("caught", error, file=log)
        torch.save(net.state_dict(), "rescue.pt")
    finally:
        print("step", step, file=log)
log.close()
for step in range(30):
    loss = net(torch.ones(1, 4)).pow(2).sum().clamp(max=1e6)
    with open("losses.txt", "a") as file:
        file.write(f"{step}\n")
    (loss * 0.001).backward()
    optimizer.step()
print(open("log.txt").read(), open("losses.txt").read(), sorted(os.listdir(".")).count("rescue.pt"))
print([p.double().sum().item() for p in net.parameters()])
