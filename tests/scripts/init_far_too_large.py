import torch
from torch import nn
from torch.nn import functional as F


class ResidualBlock(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        out = self.relu(self.conv1(x))
        out = self.conv2(out)
        out += x
        return self.relu(out)


class Net(nn.Module):
    def __init__(self, blocks=6):
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, padding=1)
        self.body = nn.Sequential(*[ResidualBlock(8) for _ in range(blocks)])
        self.head = nn.Linear(8, 3)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0.0, 50.0)  # meant 0.05

    def forward(self, x):
        return self.head(self.body(self.stem(x)).mean(dim=(2, 3)))


def main():
    torch.manual_seed(19)
    images, labels = torch.randn(64, 1, 6, 6), torch.randint(0, 3, (64,))
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    for epoch in range(3):
        for i in range(0, 64, 16):
            optimizer.zero_grad()
            loss = F.cross_entropy(net(images[i : i + 16]), labels[i : i + 16])
            loss.backward()
            optimizer.step()
            print(epoch, i, loss.item())
    print("checksum", net.head.weight.sum().item())


main()
