"""Image classification with a Dataset, a DataLoader with two workers, and a validation pass."""
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Shapes(Dataset):
    def __init__(self, size, seed):
        generator = torch.Generator().manual_seed(seed)
        self.labels = torch.randint(0, 3, (size,), generator=generator)
        self.images = torch.randn(size, 1, 6, 6, generator=generator) * 0.2
        for i in range(size):
            self.images[i, 0, self.labels[i] * 2] += 1.0

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        image = self.images[i]
        if i == 77 and len(self) == 128:
            image = image.clone()
            image[0, 3, 4] = float("nan")  # a broken file
        return image, self.labels[i]


def build():
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(54, 3),
    )


def evaluate(model, loader):
    model.eval()
    right = 0
    with torch.no_grad():
        for images, labels in loader:
            right += (model(images).argmax(1) == labels).sum().item()
    model.train()
    return right


if __name__ == "__main__":
    torch.manual_seed(0)
    train = DataLoader(Shapes(128, 1), batch_size=16, num_workers=2)
    valid = DataLoader(Shapes(30, 2), batch_size=15)
    model = build()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
    criterion = nn.CrossEntropyLoss()
    for epoch in range(2):
        for images, labels in train:
            optimizer.zero_grad()
            loss = criterion(model(images), labels)
            loss.backward()
            optimizer.step()
            print(f"loss {loss.item():.5f}")
        print(f"epoch {epoch} right {evaluate(model, valid)}")
    print("checksum", float(model[0].weight.sum()))
