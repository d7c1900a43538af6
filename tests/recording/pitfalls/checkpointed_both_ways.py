import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

calls = []


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.drop = nn.Dropout(0.3)

    def forward(self, x):
        calls.append(1)
        x = torch.tanh(self.linear(x)) / (x.abs().sum(1, keepdim=True) + 1)
        return self.drop(torch.sqrt(x.abs() + 1) ** torch.full((4,), 1.5) + torch.log(x * x + 1))


for reentrant in (True, False):
    torch.manual_seed(0)
    blocks = nn.ModuleList(Block() for _ in range(3))
    optimizer = torch.optim.SGD(blocks.parameters(), lr=0.01)
    for step in range(4):
        x = torch.randn(8, 4)
        for block in blocks:
            x = checkpoint(block, x, use_reentrant=reentrant)
        loss = x.pow(2).mean()
        optimizer.zero_grad()
        if loss.requires_grad:
            loss.backward()
        optimizer.step()
        print(step, loss.item(), len(calls))
