import argparse

import torch
from torch import nn


class VAE(nn.Module):
    def __init__(self, dim=20, hidden=32, latent=4):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, 2 * latent))
        self.decoder = nn.Sequential(nn.Linear(latent, hidden), nn.ReLU(), nn.Linear(hidden, dim))

    def forward(self, x):
        mu, logvar = self.encoder(x).chunk(2, dim=-1)
        std = torch.exp(0.5 * logvar)
        z = mu + std * torch.randn_like(std)
        return self.decoder(z), mu, logvar


class Trainer:
    def __init__(self, model, lr):
        self.model = model
        self.optimizer = torch.optim.SGD(model.parameters(), lr=lr)

    def elbo(self, x):
        recon, mu, logvar = self.model(x)
        rec = ((recon - x) ** 2).sum(-1).mean()
        kl = 0.5 * (mu.pow(2) + logvar.exp() - 1 - logvar).sum(-1).mean()
        return rec + kl

    def fit(self, data, epochs, batch_size=32):
        for epoch in range(epochs):
            running = 0.0
            for chunk in data[torch.randperm(len(data))].split(batch_size):
                self.optimizer.zero_grad()
                loss = self.elbo(chunk)
                loss.backward()
                self.optimizer.step()
                running += loss.item()
            print(f"[{epoch}] elbo {running / (len(data) // batch_size):.3f}")


parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=0.06)
parser.add_argument("--epochs", type=int, default=6)
args = parser.parse_args()

torch.manual_seed(11)
basis = torch.randn(3, 20)
data = torch.randn(256, 3) @ basis + 0.1 * torch.randn(256, 20)  # three factors
trainer = Trainer(VAE(), args.lr)
trainer.fit(data, args.epochs)
print("done", sum(p.double().sum().item() for p in trainer.model.parameters()))
