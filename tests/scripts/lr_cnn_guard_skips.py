"""A small CNN on synthetic blobs; batches whose loss is not finite are skipped."""
import math

import torch
import torch.nn.functional as F
from torch import nn


class Net(nn.Module):
    """Four convolutions, one hidden layer."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, padding=1)
        self.conv2 = nn.Conv2d(8, 16, 3, padding=1)
        self.conv3 = nn.Conv2d(16, 16, 3, padding=1)
        self.conv4 = nn.Conv2d(16, 16, 3, padding=1)
        self.fc1 = nn.Linear(16 * 4, 32)
        self.fc2 = nn.Linear(32, 4)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = x + F.relu(self.conv3(x))
        x = x + F.relu(self.conv4(x))
        x = F.relu(self.fc1(x.flatten(1)))
        return self.fc2(x)


def make_data(n):
    labels = torch.randint(0, 4, (n,))
    images = 0.3 * torch.randn(n, 1, 8, 8)
    for i, c in enumerate(labels.tolist()):
        r, q = divmod(c, 2)
        images[i, 0, r * 4 : r * 4 + 4, q * 4 : q * 4 + 4] += 1.0
    return images, labels


def main():
    torch.manual_seed(0)
    images, labels = make_data(320)
    model = Net()
    opt = torch.optim.SGD(model.parameters(), lr=1.5, momentum=0.9)
    skipped = 0
    for epoch in range(2):
        for i in range(0, 320, 32):
            opt.zero_grad(set_to_none=True)
            loss = F.cross_entropy(model(images[i : i + 32]), labels[i : i + 32])
            if not math.isfinite(loss.item()):
                skipped += 1
                continue
            loss.backward()
            opt.step()
            print(f"{epoch}/{i // 32} {loss.item():.4f}")
    print("skipped", skipped, "checksum", sum(p.abs().sum().item() for p in model.parameters()))


if __name__ == "__main__":
    main()
