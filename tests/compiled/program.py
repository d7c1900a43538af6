"""python program.py BACKEND HOW SICK: trains a compiled model and prints losses, weights and Dynamo's counters.

HOW is module, method, block, step; several words, joined by commas, run after another in this process.
"""

import hashlib
import sys

import torch
from torch import nn
from torch._dynamo.utils import counters

backend, ways, sick = sys.argv[1], sys.argv[2].split(","), sys.argv[3] == "sick"


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(8, 8)
        self.drop = nn.Dropout(0.1)

    def forward(self, x):
        return x + self.drop(torch.relu(self.a(x)))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([Block(), Block()])
        self.head = nn.Linear(8, 1)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        if sick:
            x = torch.log(x + 8.0)
        loudest = x.detach().abs().amax()
        finite = torch.isfinite(x).all()
        return self.head(x) + 0 * loudest * torch.where(finite, 1.0, 0.0)


def train(how):
    torch.manual_seed(0)
    net = Net()
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01)
    model = net
    if how == "module":
        model = torch.compile(net, backend=backend, fullgraph=True)
    elif how == "method":
        net.compile(backend=backend, fullgraph=True)
    elif how == "block":
        for number in range(2):
            net.blocks[number] = torch.compile(net.blocks[number], backend=backend)
    elif how == "step":
        @torch.compile(backend=backend)
        def model(x):
            return net(x)
    for step in range(12):
        x = torch.randn(4 if step == 11 else 16, 8)  # the last batch is smaller: one recompile, by right
        if sick and step == 7:
            x *= 20
        optimizer.zero_grad()
        loss = (model(x) - x.sum(1, keepdim=True)).pow(2).mean()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        print(step, loss.item())
    weights = torch.cat([p.detach().reshape(-1) for p in net.parameters()])
    print(hashlib.sha256(weights.numpy().tobytes()).hexdigest())


for way in ways:
    torch._dynamo.reset()
    counters.clear()
    train(way)
    counted = ("stats", "graph_break", "frames", "recompiles")
    print(way, {name: dict(counters[name]) for name in counted if name in counters})
