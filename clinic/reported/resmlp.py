import random
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, Dataset

SEED = 0
LR = 2e-3


@dataclass
class Config:
    epochs: int = 9
    batch_size: int = 64
    width: int = 64
    depth: int = 3
    dropout: float = 0.1
    weight_decay: float = 1e-2
    warmup: int = 20
    accum: int = 1
    clip: float = 5.0
    amp: bool = False
    log_every: int = 40


class DigitsDataset(Dataset):
    def __init__(self, train=True, cut=1437):
        bunch = load_digits()
        x = bunch.data.astype(np.float32) / 16.0
        y = bunch.target.astype(np.int64)
        order = np.random.RandomState(1).permutation(len(x))
        keep = order[:cut] if train else order[cut:]
        self.x, self.y = x[keep], y[keep]

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        x = torch.from_numpy(self.x[i])
        y = int(self.y[i])
        return x, y


class ResidualBlock(nn.Module):
    def __init__(self, width, dropout):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, 2 * width)
        self.fc2 = nn.Linear(2 * width, width)
        self.drop = nn.Dropout(dropout)

    def forward(self, x):
        h = self.norm(x)
        h = F.relu(self.fc1(h))
        h = self.drop(self.fc2(h))
        return x + h


class ResMLP(nn.Module):
    def __init__(self, in_dim, classes, cfg):
        super().__init__()
        self.stem = nn.Linear(in_dim, cfg.width)
        self.blocks = nn.ModuleList([ResidualBlock(cfg.width, cfg.dropout) for _ in range(cfg.depth)])
        self.norm = nn.LayerNorm(cfg.width)
        self.head = nn.Linear(cfg.width, classes)

    def forward(self, x):
        h = F.relu(self.stem(x))
        for block in self.blocks:
            h = block(h)
        h = self.norm(h)
        return self.head(h)


class Trainer:
    def __init__(self, model, train_set, valid_set, cfg):
        self.model = model
        self.cfg = cfg
        self.train_loader = DataLoader(train_set, batch_size=cfg.batch_size, shuffle=True)
        self.valid_loader = DataLoader(valid_set, batch_size=180)
        self.criterion = nn.CrossEntropyLoss()
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=cfg.weight_decay)
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, self.lr_factor)
        self.scaler = torch.amp.GradScaler("cpu", enabled=cfg.amp)
        self.step = 0

    def lr_factor(self, step):
        return min(1.0, (step + 1) / self.cfg.warmup)

    def compute_loss(self, batch):
        x, y = batch
        with torch.autocast("cpu", dtype=torch.float16, enabled=self.cfg.amp):
            logits = self.model(x)
        return self.criterion(logits.float(), y)

    def train_epoch(self):
        self.model.train()
        self.optimizer.zero_grad()
        for i, batch in enumerate(self.train_loader):
            loss = self.compute_loss(batch)
            self.scaler.scale(loss / self.cfg.accum).backward()
            if (i + 1) % self.cfg.accum != 0:
                continue
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.cfg.clip)
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.optimizer.zero_grad()
            self.scheduler.step()
            if self.step % self.cfg.log_every == 0:
                print(f"step {self.step:4d} loss {loss.item():.4f}")
            self.step += 1

    @torch.no_grad()
    def evaluate(self):
        self.model.eval()
        total = count = 0
        for batch in self.valid_loader:
            n = len(batch[1])
            total += self.compute_loss(batch).item() * n
            count += n
        return total / count

    def fit(self):
        for epoch in range(self.cfg.epochs):
            self.train_epoch()
            if epoch % 3 == 2:
                print(f"epoch {epoch} valid {self.evaluate():.4f}")
        return self.evaluate()


def main():
    random.seed(SEED)
    np.random.seed(SEED)
    torch.manual_seed(SEED)
    cfg = Config()
    model = ResMLP(64, 10, cfg)
    trainer = Trainer(model, DigitsDataset(True), DigitsDataset(False), cfg)
    result = trainer.fit()
    print(f"final valid loss {result:.4f}")


if __name__ == "__main__":
    main()
