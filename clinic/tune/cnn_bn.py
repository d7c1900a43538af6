import argparse

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, Dataset

SEED = 0
LR = 0.05


class DigitImages(Dataset):
    def __init__(self, images, labels, train=True, noise=0.05):
        self.images = images
        self.labels = labels
        self.train = train
        self.noise = noise

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image = self.images[index].astype(np.float32) / 8.0 - 1.0
        image = torch.from_numpy(image)[None]
        if self.train:
            image = image + self.noise * torch.randn_like(image)
        return image, int(self.labels[index])


class Net(nn.Module):
    def __init__(self, channels=12):
        super().__init__()
        self.conv1 = nn.Conv2d(1, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, 2 * channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(2 * channels)
        self.pool = nn.MaxPool2d(2)
        self.fc = nn.Linear(2 * channels * 4, 10)
        self.act = nn.ReLU()

    def forward(self, x):
        x = self.pool(self.act(self.bn1(self.conv1(x))))
        x = self.pool(self.act(self.bn2(self.conv2(x))))
        return self.fc(x.flatten(1))


class Trainer:
    def __init__(self, model, train_loader, val_loader, args):
        self.model = model
        self.train_loader = train_loader
        self.val_loader = val_loader
        self.criterion = nn.CrossEntropyLoss()
        self.optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9, weight_decay=1e-4)
        self.global_step = 0

    def training_step(self, images, labels):
        self.optimizer.zero_grad()
        loss = self.criterion(self.model(images), labels)
        loss.backward()
        self.optimizer.step()
        self.global_step += 1
        return loss.item()

    @torch.no_grad()
    def validate(self):
        self.model.eval()
        total, count = 0.0, 0
        for images, labels in self.val_loader:
            total += self.criterion(self.model(images), labels).item() * len(labels)
            count += len(labels)
        self.model.train()
        return total / count

    def fit(self, epochs):
        for epoch in range(epochs):
            for images, labels in self.train_loader:
                loss = self.training_step(images, labels)
                if self.global_step % 25 == 0:
                    print(f"[{epoch}] step {self.global_step} loss {loss:.4f}")
            print(f"[{epoch}] validation {self.validate():.4f}")
        return self.validate()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, default=LR)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=32)
    args = parser.parse_args()
    torch.manual_seed(SEED)
    images, labels = load_digits(return_X_y=True)
    images = images.reshape(-1, 8, 8)
    order = np.random.default_rng(SEED).permutation(len(images))
    train, val = order[:1400], order[1400:]
    train_set = DigitImages(images[train], labels[train])
    val_set = DigitImages(images[val], labels[val], train=False)
    train_loader = DataLoader(train_set, batch_size=args.batch_size, shuffle=True, drop_last=True)
    val_loader = DataLoader(val_set, batch_size=128)
    model = Net()
    trainer = Trainer(model, train_loader, val_loader, args)
    best = trainer.fit(args.epochs)
    print(f"final validation loss {best:.4f}")


if __name__ == "__main__":
    main()
