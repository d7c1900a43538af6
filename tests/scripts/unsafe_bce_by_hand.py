"""Logistic regression on top of a small MLP; the loss is written out as in the textbook."""
import torch
from torch import nn

torch.manual_seed(10)


def bce(p, t):
    return -(t * torch.log(p) + (1 - t) * torch.log(1 - p)).mean()


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(2, 16)
        self.b = nn.Linear(16, 1)

    def forward(self, x):
        return torch.sigmoid(self.b(torch.relu(self.a(x)))).squeeze(1)


# two clouds that are far apart
x = torch.cat([torch.randn(64, 2) * 2.0 + 3.5, torch.randn(64, 2) * 2.0 - 3.5])
t = torch.cat([torch.ones(64), torch.zeros(64)])
net = Net()
sgd = torch.optim.SGD(net.parameters(), lr=0.2)
print("parameters", sum(p.numel() for p in net.parameters()))
steps = 0
for epoch in range(60):
    order = torch.randperm(128)
    for index in order.chunk(4):
        stretched = x[index] * 1.5  # augmentation
        p = net(stretched)
        loss = bce(p, t[index])
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        steps += 1
    if epoch % 5 == 0:
        print("epoch", epoch, "loss", f"{loss.item():.3e}")
print("steps", steps, "checksum", net.a.weight.sum().item())
