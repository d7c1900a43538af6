import signal

import torch
from torch import nn

torch.manual_seed(0)
net = nn.Sequential(*[nn.Linear(8, 8) for _ in range(6)])
optimizer = torch.optim.Adam(net.parameters(), lr=0.001)


def step():
    optimizer.zero_grad()
    net(torch.randn(4, 8)).pow(2).mean().backward()
    optimizer.step()


class Late(Exception):
    pass


def late(number, frame):
    raise Late


for _ in range(3):
    step()
signal.signal(signal.SIGALRM, late)
for place in range(60):  # a time limit on a piece of the training: wherever it strikes, the program gets its exception
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.002 + place / 20_000)
        while True:
            step()
    except Late:
        torch.set_grad_enabled(True)  # it may have struck where the optimizer was about to switch this on again
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
print("sixty times late")
for _ in range(3):
    step()
