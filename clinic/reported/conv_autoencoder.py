import torch
import torch.nn as nn
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset

SEED = 0
LR = 0.1
EPOCHS = 10
BATCH_SIZE = 64
USE_AMP = False

torch.manual_seed(SEED)


def load_data():
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16.0
    images = (images - images.mean()) / images.std()
    images = images[torch.randperm(len(images))]
    train, test = images[:1216], images[1216:1600]
    noisy = train + 0.3 * torch.randn_like(train)
    return TensorDataset(noisy, train), TensorDataset(test, test)


class Encoder(nn.Module):
    def __init__(self, latent):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 12, 3, stride=2, padding=1)
        self.bn1 = nn.BatchNorm2d(12)
        self.conv2 = nn.Conv2d(12, 24, 3, stride=2, padding=1)
        self.bn2 = nn.BatchNorm2d(24)
        self.fc = nn.Linear(24 * 2 * 2, latent)
        self.act = nn.ReLU()

    def forward(self, x):
        h = self.act(self.bn1(self.conv1(x)))
        h = self.act(self.bn2(self.conv2(h)))
        return self.fc(h.flatten(1))


class Decoder(nn.Module):
    def __init__(self, latent):
        super().__init__()
        self.fc = nn.Linear(latent, 24 * 2 * 2)
        self.up1 = nn.ConvTranspose2d(24, 12, 2, stride=2)
        self.up2 = nn.ConvTranspose2d(12, 12, 2, stride=2)
        self.out = nn.Conv2d(12, 1, 3, padding=1)
        self.act = nn.ReLU()

    def forward(self, z):
        h = self.act(self.fc(z)).view(-1, 24, 2, 2)
        h = self.act(self.up1(h))
        h = self.act(self.up2(h))
        return self.out(h)


class AutoEncoder(nn.Module):
    def __init__(self, latent=20):
        super().__init__()
        self.encoder = Encoder(latent)
        self.decoder = Decoder(latent)

    def forward(self, x):
        return self.decoder(self.encoder(x))


def reconstruction_loss(output, target):
    difference = output - target
    return difference.pow(2).mean()


def test(model, loader):
    model.eval()
    losses = []
    with torch.no_grad():
        for noisy, clean in loader:
            losses.append(reconstruction_loss(model(noisy), clean))
    model.train()
    return torch.stack(losses).mean().item()


train_data, test_data = load_data()
train_loader = DataLoader(train_data, batch_size=BATCH_SIZE, shuffle=True)
test_loader = DataLoader(test_data, batch_size=128)

model = AutoEncoder()
optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=0.9)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=7, gamma=0.3)
scaler = torch.amp.GradScaler("cpu", enabled=USE_AMP)

for epoch in range(EPOCHS):
    epoch_loss = 0.0
    for noisy, clean in train_loader:
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.float16, enabled=USE_AMP):
            output = model(noisy)
            loss = reconstruction_loss(output, clean)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
        epoch_loss += loss.item()
    scheduler.step()
    print(f"epoch {epoch + 1}/{EPOCHS} loss {epoch_loss / len(train_loader):.5f}")

print(f"final test mse {test(model, test_loader):.5f}")
