import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn, optim

SEED = 0
LR = 2e-3
LATENT = 10
BETA = 0.1
EPOCHS = 12
BATCH_SIZE = 48


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 48), nn.ReLU())
        self.mu = nn.Linear(48, LATENT)
        self.logvar = nn.Linear(48, LATENT)

    def forward(self, x):
        h = self.net(x)
        return self.mu(h), self.logvar(h)


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(LATENT, 48)
        self.fc2 = nn.Linear(48, 96)
        self.fc3 = nn.Linear(96, 64)

    def forward(self, z):
        h = torch.relu(self.fc1(z))
        h = torch.relu(self.fc2(h))
        return self.fc3(h)


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = Encoder()
        self.decoder = Decoder()

    def forward(self, x):
        mu, logvar = self.encoder(x)
        std = torch.exp(0.5 * logvar)
        z = mu + std * torch.randn_like(std)
        return self.decoder(z), mu, logvar


def elbo(recon, x, mu, logvar):
    bce = F.binary_cross_entropy_with_logits(recon, x, reduction="sum") / len(x)
    kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp()) / len(x)
    return bce + BETA * kl


def batches(x, size):
    order = torch.randperm(len(x))
    for i in range(0, len(x) - size + 1, size):
        yield x[order[i : i + size]]


def run():
    torch.manual_seed(SEED)
    pixels = torch.from_numpy(load_digits().data).float() / 16.0
    train_x, test_x = pixels[:1500], pixels[1500:]
    vae = VAE()
    with torch.no_grad():
        vae.decoder.fc3.bias[:64] = torch.logit(train_x.mean(0).clamp(0.01, 0.99))
    opt = optim.Adam(vae.parameters(), lr=LR)
    step = 0
    for epoch in range(1, EPOCHS + 1):
        vae.train()
        total, seen = 0.0, 0
        for x in batches(train_x, BATCH_SIZE):
            recon, mu, logvar = vae(x)
            loss = elbo(recon, x, mu, logvar)
            opt.zero_grad()
            loss.backward()
            opt.step()
            total += loss.item()
            seen += 1
            step += 1
        print(f"epoch {epoch}: elbo {total / seen:.3f}")
    vae.eval()
    with torch.no_grad():
        recon, mu, logvar = vae(test_x)
        return elbo(recon, test_x, mu, logvar).item()


print(f"final test elbo {run():.4f}")
