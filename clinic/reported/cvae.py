import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn, optim
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

SEED = 0
LR = 2e-3
BATCH_SIZE = 96
EPOCHS = 14
LATENT = 8
HIDDEN = 96
CLASSES = 10
KL_EPOCHS = 4
LOG_INTERVAL = 30


def load_data():
    digits = load_digits()
    images = torch.tensor(digits.data / 16.0, dtype=torch.float32)
    labels = torch.tensor(digits.target)
    perm = torch.randperm(len(images), generator=torch.Generator().manual_seed(7))
    images, labels = images[perm], labels[perm]
    return images, labels


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(64 + CLASSES, HIDDEN)
        self.fc2 = nn.Linear(HIDDEN, HIDDEN)
        self.mu = nn.Linear(HIDDEN, LATENT)
        self.logvar = nn.Linear(HIDDEN, LATENT)

    def forward(self, x, c):
        h = torch.cat([x, c], dim=1)
        h = F.relu(self.fc1(h))
        h = F.relu(self.fc2(h))
        return self.mu(h), self.logvar(h)


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(LATENT + CLASSES, HIDDEN)
        self.fc2 = nn.Linear(HIDDEN, HIDDEN)
        self.out = nn.Linear(HIDDEN, 64)

    def forward(self, z, c):
        h = torch.cat([z, c], dim=1)
        h = F.relu(self.fc1(h))
        h = F.relu(self.fc2(h))
        return self.out(h)


class CVAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = Encoder()
        self.decoder = Decoder()

    def reparameterize(self, mu, logvar):
        std = torch.exp(0.5 * logvar)
        return mu + std * torch.randn_like(std)

    def forward(self, x, y):
        c = F.one_hot(y, CLASSES).float()
        mu, logvar = self.encoder(x, c)
        z = self.reparameterize(mu, logvar)
        return self.decoder(z, c), mu, logvar


def loss_function(recon, x, mu, logvar, beta):
    bce = F.binary_cross_entropy_with_logits(recon, x, reduction="sum")
    kld = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    return (bce + beta * kld) / x.size(0)


def train(epoch, model, loader, optimizer):
    model.train()
    beta = min(1.0, (epoch + 1) / KL_EPOCHS)
    running = []
    for batch_idx, (data, label) in enumerate(loader):
        optimizer.zero_grad()
        recon, mu, logvar = model(data, label)
        loss = loss_function(recon, data, mu, logvar, beta)
        loss.backward()
        optimizer.step()
        running.append(loss.item())
        step = epoch * len(loader) + batch_idx
        if step % LOG_INTERVAL == 0:
            print(f"Train Epoch: {epoch} [{batch_idx}/{len(loader)}]\tLoss: {loss.item():.4f}")
    return running


def test(model, images, labels):
    model.eval()
    with torch.no_grad():
        recon, mu, logvar = model(images, labels)
        return loss_function(recon, images, mu, logvar, 1.0).item()


def main():
    torch.manual_seed(SEED)
    np.random.seed(SEED)
    images, labels = load_data()
    train_data = TensorDataset(images[:1500], labels[:1500])
    test_images, test_labels = images[1500:], labels[1500:]
    loader = DataLoader(train_data, batch_size=BATCH_SIZE, shuffle=True)
    model = CVAE()
    optimizer = optim.Adam(model.parameters(), lr=LR)
    for epoch in range(EPOCHS):
        losses = train(epoch, model, loader, optimizer)
        if epoch % 4 == 3:
            print(f"====> Epoch: {epoch} Average loss: {sum(losses) / len(losses):.4f}")
    print(f"final test loss {test(model, test_images, test_labels):.4f}")


main()
