"""Heteroscedastic regression: the network names its own variance, and one part of the data has no noise."""
import torch
from torch import nn


class TwoHeaded(nn.Module):
    def __init__(self):
        super().__init__()
        self.shared = nn.Sequential(nn.Linear(4, 16), nn.ReLU())
        self.mean = nn.Linear(16, 1)
        self.spread = nn.Linear(16, 1)

    def forward(self, x):
        h = self.shared(x)
        return self.mean(h), torch.relu(self.spread(h))


class GaussianNLL(nn.Module):
    def forward(self, output, y):
        mu, var = output
        return (torch.div((y - mu) ** 2, var) + torch.log(var)).mean() / 2


def epochs(data, target, size):
    while True:
        for index in torch.randperm(len(data)).split(size):
            yield data[index], target[index]


torch.manual_seed(45)
x = torch.randn(180, 4)
y = x[:, :1] + torch.randn(180, 1) * 0.5
net, criterion = TwoHeaded(), GaussianNLL()
nn.init.constant_(net.spread.bias, 1.6)
opt = torch.optim.Adam(net.parameters(), lr=4e-3)
stream = epochs(x, y, 30)
for step in range(150):
    inputs, wanted = next(stream)
    loss = criterion(net(inputs), wanted)
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 10 == 0:
        print(step, loss.item())
print("checksum", net.mean.weight.sum().item())
