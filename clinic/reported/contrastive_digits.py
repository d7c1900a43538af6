import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, Dataset

SEED = 0
LR = 0.06


class TwoViews(Dataset):
    """Every digit twice: shifted, scaled in contrast and noisy."""

    def __init__(self, images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def view(self, image):
        shift = torch.randint(-1, 2, (2,)).tolist()
        image = torch.roll(image, shift, dims=(1, 2))
        contrast = 0.8 + 0.4 * torch.rand(1, 1, 1)
        return image * contrast + 0.1 * torch.randn_like(image)

    def __getitem__(self, index):
        image = self.images[index]
        return self.view(image), self.view(image)


class Encoder(nn.Module):
    def __init__(self, width=16, features=64):
        super().__init__()
        self.conv1 = nn.Conv2d(1, width, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.bn2 = nn.BatchNorm2d(2 * width)
        self.fc = nn.Linear(2 * width * 16, features)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        return F.relu(self.fc(x.flatten(1)))


class SimCLR(nn.Module):
    def __init__(self, features=64, projected=32):
        super().__init__()
        self.encoder = Encoder(features=features)
        self.projector = nn.Sequential(nn.Linear(features, features), nn.ReLU(), nn.Linear(features, projected))

    def forward(self, x):
        return self.projector(self.encoder(x))


def info_nce(a, b, temperature):
    z = F.normalize(torch.cat([a, b]), dim=1)
    similarity = z @ z.T / temperature
    n = len(a)
    similarity = similarity.masked_fill(torch.eye(2 * n, dtype=torch.bool), float("-inf"))
    partner = torch.cat([torch.arange(n, 2 * n), torch.arange(n)])
    return F.cross_entropy(similarity, partner)


class Trainer:
    def __init__(self, model, loader, epochs, temperature=0.2):
        self.model, self.loader, self.epochs, self.temperature = model, loader, epochs, temperature
        self.optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=0.9, weight_decay=1e-4)
        self.losses = []

    def training_step(self, batch):
        first, second = batch
        return info_nce(self.model(first), self.model(second), self.temperature)

    def fit(self):
        for epoch in range(self.epochs):
            self.model.train()
            for batch in self.loader:
                loss = self.training_step(batch)
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
                self.losses.append(loss.item())
            print(f"epoch {epoch} loss {self.mean(len(self.loader)):.4f}")

    def mean(self, count):
        return sum(self.losses[-count:]) / count


def main():
    torch.manual_seed(SEED)
    images = torch.tensor(load_digits().images[:1200] / 16.0, dtype=torch.float32).unsqueeze(1)
    loader = DataLoader(TwoViews(images), batch_size=48, shuffle=True, drop_last=True)
    trainer = Trainer(SimCLR(), loader, epochs=6)
    trainer.fit()
    print(f"final loss {trainer.mean(20):.4f}")


if __name__ == "__main__":
    main()
