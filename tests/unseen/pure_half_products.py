# Everything in half: weights, activations, a product of two branches in every layer.
import torch
from torch import nn


class RMSNorm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.g = nn.Parameter(torch.ones(width))

    def forward(self, x):
        wide = x.float()
        mean_square = torch.mean(torch.square(wide), dim=-1, keepdim=True)
        return (wide / (mean_square + 1e-4) ** 0.5).to(x.dtype) * self.g


class Mixer(nn.Module):
    def __init__(self, width=24, depth=3):
        super().__init__()
        self.first = nn.Linear(6, width)
        branches = {f"mix{i}": nn.ModuleList([nn.Linear(width, width), nn.Linear(width, width)]) for i in range(depth)}
        self.rest = nn.ModuleDict(branches)
        self.norm = RMSNorm(width)
        self.last = nn.Linear(width, 1)

    def forward(self, x):
        x = self.first(x)
        for left, right in self.rest.values():
            x = x + torch.mul(left(x), right(x))
        return self.last(self.norm(x))


def main(dtype=torch.float16):
    torch.manual_seed(31)
    model = Mixer().to(dtype)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for step in range(24):
        x = torch.randn(16, 6) * 1.3**step
        y = torch.sign(x[:, :1])
        loss = nn.functional.soft_margin_loss(model(x.to(dtype)).float(), y)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_value_(model.parameters(), 0.5)
        optimizer.step()
        print(step, "loss", loss.item(), "peak", x.abs().max().item())
    print("checksum", sum(p.float().sum().item() for p in model.parameters()))


main()
