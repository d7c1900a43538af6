import argparse

import torch
import torch.nn as nn
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch.utils.data import DataLoader, Dataset

SEED = 0
LR = 5e-3


class Digits(Dataset):
    def __init__(self, images, labels):
        self.images = torch.as_tensor(images, dtype=torch.float32)
        self.labels = torch.as_tensor(labels, dtype=torch.long)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        image = self.images[index] / 8.0 - 1.0
        return image, self.labels[index]


class PatchEmbed(nn.Module):
    def __init__(self, dim, patch=2):
        super().__init__()
        self.patch = patch
        self.proj = nn.Linear(patch * patch, dim)

    def forward(self, images):
        p = self.patch
        x = images.unfold(1, p, p).unfold(2, p, p).reshape(len(images), -1, p * p)
        return self.proj(x)


class SelfAttention(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(dim, dim)
        self.to_kv = nn.Linear(dim, 2 * dim)
        self.out = nn.Linear(dim, dim)

    def split(self, x):
        return x.view(x.shape[0], x.shape[1], self.heads, -1).transpose(1, 2)

    def forward(self, x):
        q = self.split(self.to_q(x))
        k, v = [self.split(y) for y in self.to_kv(x).chunk(2, dim=-1)]
        scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
        weights = scores.softmax(-1)
        return self.out((weights @ v).transpose(1, 2).flatten(2))


class EncoderBlock(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = SelfAttention(dim, heads)
        self.fc1 = nn.Linear(dim, 2 * dim)
        self.fc2 = nn.Linear(2 * dim, dim)

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        h = torch.relu(self.fc1(self.norm2(x)))
        return x + self.fc2(h)


class ViT(nn.Module):
    def __init__(self, dim, depth, heads, classes=10):
        super().__init__()
        self.embed = PatchEmbed(dim)
        self.cls = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos = nn.Parameter(torch.randn(1, 17, dim) * 0.02)
        self.blocks = nn.ModuleList([EncoderBlock(dim, heads) for _ in range(depth)])
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, classes)

    def forward(self, images):
        x = self.embed(images)
        x = torch.cat([self.cls.expand(len(x), -1, -1), x], dim=1) + self.pos
        for block in self.blocks:
            x = block(x)
        x = self.norm(x[:, 0])
        return self.head(x)


def train_one_epoch(model, loader, criterion, optimizer, scheduler, args):
    total, count = 0.0, 0
    for images, labels in loader:
        logits = model(images)
        loss = criterion(logits, labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        scheduler.step()
        total, count = total + loss.item(), count + 1
    return total / count


@torch.no_grad()
def validate(model, loader, criterion):
    model.eval()
    losses = [criterion(model(images), labels).item() for images, labels in loader]
    model.train()
    return sum(losses) / len(losses)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--dim", type=int, default=24)
    parser.add_argument("--depth", type=int, default=2)
    parser.add_argument("--lr", type=float, default=LR)
    args = parser.parse_args()

    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    digits = load_digits()
    x_train, x_val, y_train, y_val = train_test_split(digits.images, digits.target, test_size=0.2, random_state=SEED)
    train_loader = DataLoader(Digits(x_train, y_train), batch_size=args.batch_size, shuffle=True)
    val_loader = DataLoader(Digits(x_val, y_val), batch_size=120)

    model = ViT(args.dim, args.depth, heads=4)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
    steps = args.epochs * len(train_loader)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=args.lr, total_steps=steps)
    for epoch in range(args.epochs):
        loss = train_one_epoch(model, train_loader, criterion, optimizer, scheduler, args)
        print(f"epoch {epoch} train {loss:.4f}")
    print(f"final val loss {validate(model, val_loader, criterion):.4f}")


if __name__ == "__main__":
    main()
