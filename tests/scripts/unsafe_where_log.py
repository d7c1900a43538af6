import torch
from torch import nn


class CountHead(nn.Module):
    """Log intensity where something was seen, zero elsewhere."""

    def __init__(self, width):
        super().__init__()
        self.rate = nn.Linear(width, 4)

    def forward(self, h, seen):
        rate = nn.functional.softplus(self.rate(h)) * seen
        return torch.where(seen > 0, torch.log(rate), torch.zeros_like(rate))


class UNetish(nn.Module):
    def __init__(self):
        super().__init__()
        self.down1 = nn.Conv1d(1, 4, 3, padding=1)
        self.down2 = nn.Conv1d(4, 8, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose1d(8, 4, 2, stride=2)
        self.head = CountHead(8)

    def forward(self, x, seen):
        a = torch.tanh(self.down1(x))
        b = torch.tanh(self.down2(a))
        joined = torch.cat([a, self.up(b)], dim=1)  # skip connection
        return self.head(joined.transpose(1, 2), seen)


torch.manual_seed(40)
model = UNetish()
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
signal = torch.randn(16, 1, 10)
counts = torch.rand(16, 10, 4)
seen = torch.ones(16, 10, 4)
for step in range(14):
    if step == 6:
        seen[3, 2, 1] = 0.0
    loss = nn.functional.l1_loss(model(signal, seen), counts)
    optimizer.zero_grad()
    loss.backward()
    norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    print(f"step {step} loss {loss.item():.4f} norm {norm.item():.4f}")
print("checksum", model.down1.weight.sum().item())
