import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, Dataset

SEED = 0
LR = 0.03
MARGIN = 2.0
EMBED = 8
PAIRS = 4800
BATCH = 48
EPOCHS = 2


class PairDataset(Dataset):
    def __init__(self, images, labels, size, seed):
        self.images = images
        self.labels = labels
        rng = np.random.RandomState(seed)
        by_class = [np.flatnonzero(labels == c) for c in range(10)]
        self.pairs = []
        for k in range(size):
            a = rng.randint(len(images))
            if k % 2 == 0:
                b = rng.choice(by_class[labels[a]])
            else:
                other = (labels[a] + rng.randint(1, 10)) % 10
                b = rng.choice(by_class[other])
            self.pairs.append((a, b))

    def __len__(self):
        return len(self.pairs)

    def load(self, i):
        image = self.images[i]
        return torch.from_numpy(image).unsqueeze(0)

    def __getitem__(self, k):
        a, b = self.pairs[k]
        same = float(self.labels[a] == self.labels[b])
        return self.load(a), self.load(b), torch.tensor(same)


class EmbeddingNet(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, padding=1)
        self.conv2 = nn.Conv2d(8, 16, 3, padding=1)
        self.fc1 = nn.Linear(16 * 2 * 2, 48)
        self.fc2 = nn.Linear(48, dim)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = x.flatten(1)
        x = F.relu(self.fc1(x))
        return self.fc2(x)


class SiameseNet(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.embed = EmbeddingNet(dim)

    def forward(self, a, b):
        return self.embed(a), self.embed(b)


class ContrastiveLoss(nn.Module):
    def __init__(self, margin):
        super().__init__()
        self.margin = margin

    def forward(self, za, zb, same):
        dist = torch.sqrt((za - zb).pow(2).sum(1) + 1e-6)
        pull = same * dist.pow(2)
        push = (1 - same) * F.relu(self.margin - dist).pow(2)
        return (pull + push).mean()


def train_one_epoch(net, criterion, optimizer, loader, losses):
    net.train()
    for a, b, same in loader:
        za, zb = net(a, b)
        loss = criterion(za, zb, same)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if len(losses) % 40 == 1:
            print("iter", len(losses), "loss", round(losses[-1], 4))


def evaluate(net, criterion, loader):
    net.eval()
    with torch.no_grad():
        values = [criterion(*net(a, b), same).item() for a, b, same in loader]
    return sum(values) / len(values)


def run():
    torch.manual_seed(SEED)
    np.random.seed(SEED)
    digits = load_digits()
    images = (digits.images / 16.0).astype(np.float32)
    labels = digits.target
    train_loader = DataLoader(PairDataset(images[:1400], labels[:1400], PAIRS, 11), batch_size=BATCH, shuffle=True)
    test_loader = DataLoader(PairDataset(images[1400:], labels[1400:], 480, 12), batch_size=120)
    net = SiameseNet(EMBED)
    criterion = ContrastiveLoss(MARGIN)
    optimizer = torch.optim.SGD(net.parameters(), lr=LR, momentum=0.9)
    losses = []
    for epoch in range(EPOCHS):
        train_one_epoch(net, criterion, optimizer, train_loader, losses)
        print("epoch", epoch, "test", round(evaluate(net, criterion, test_loader), 4))
    return evaluate(net, criterion, test_loader)


if __name__ == "__main__":
    result = run()
    print(f"final test loss {result:.4f}")
