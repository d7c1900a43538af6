import contextlib
import time

import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, Dataset

SEED = 7

config = dict(
    patch=2,
    dim=32,
    depth=2,
    batch_size=50,
    epochs=6,
    peak_lr=4e-3,
    weight_decay=0.02,
    grad_clip=1.0,
    amp=True,
)


class Digits(Dataset):
    def __init__(self, train):
        bunch = load_digits()
        pick = torch.arange(len(bunch.target)) % 5 != 0
        self.pictures = torch.tensor(bunch.images[pick == train], dtype=torch.float32)
        self.labels = torch.tensor(bunch.target[pick == train])

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        picture = self.pictures[i]
        return (picture - 4.9) / 6.0, self.labels[i]


class MixerLayer(nn.Module):
    def __init__(self, tokens, dim):
        super().__init__()
        self.norm_tokens = nn.LayerNorm(dim)
        self.mix_tokens = nn.Sequential(nn.Linear(tokens, 32), nn.GELU(), nn.Linear(32, tokens))
        self.norm_channels = nn.LayerNorm(dim)
        self.mix_channels = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))

    def forward(self, x):
        x = x + self.mix_tokens(self.norm_tokens(x).transpose(1, 2)).transpose(1, 2)
        return x + self.mix_channels(self.norm_channels(x))


class Mixer(nn.Module):
    def __init__(self, patch, dim, depth):
        super().__init__()
        tokens = (8 // patch) ** 2
        self.patch = patch
        self.stem = nn.Linear(patch * patch, dim)
        self.layers = nn.Sequential(*[MixerLayer(tokens, dim) for _ in range(depth)])
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, 10)

    def forward(self, picture):
        p = self.patch
        x = picture.unfold(1, p, p).unfold(2, p, p).flatten(3).flatten(1, 2)
        x = self.layers(self.stem(x))
        x = self.norm(x).mean(1)
        return self.head(x)


def make_trainer(model, loader, cfg):
    """Returns functions that share one optimizer, one schedule and one scaler."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=cfg["peak_lr"], weight_decay=cfg["weight_decay"])
    total = cfg["epochs"] * len(loader)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: min((s + 1) / 20, max(0.0, 1 - s / total)))
    scaler = torch.amp.GradScaler("cpu", enabled=cfg["amp"], init_scale=2.0**12)

    def precision():
        return torch.autocast("cpu", dtype=torch.float16) if cfg["amp"] else contextlib.nullcontext()

    def train_one(picture, label):
        with precision():
            logits = model(picture)
            loss = F.cross_entropy(logits, label, label_smoothing=0.05)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        norm = nn.utils.clip_grad_norm_(model.parameters(), cfg["grad_clip"])
        scaler.step(optimizer)
        scaler.update()
        schedule.step()
        return loss.item(), norm.item()

    def evaluate(loader):
        model.eval()
        total, right, seen = 0.0, 0, 0
        with torch.no_grad(), precision():
            for picture, label in loader:
                logits = model(picture).float()
                total += F.cross_entropy(logits, label, reduction="sum").item()
                right += (logits.argmax(1) == label).sum().item()
                seen += len(label)
        model.train()
        return total / seen, right / seen

    return train_one, evaluate


def fit(cfg):
    torch.manual_seed(SEED)
    train_loader = DataLoader(Digits(True), cfg["batch_size"], shuffle=True, drop_last=True, num_workers=0)
    test_loader = DataLoader(Digits(False), 180)
    model = Mixer(cfg["patch"], cfg["dim"], cfg["depth"])
    train_one, evaluate = make_trainer(model, train_loader, cfg)
    for epoch in range(cfg["epochs"]):
        started, sums = time.time(), 0.0
        for picture, label in train_loader:
            loss, norm = train_one(picture, label)
            sums += loss
        test_loss, accuracy = evaluate(test_loader)
        print(f"epoch {epoch} train {sums / len(train_loader):.4f} |g| {norm:.2f} acc {accuracy:.3f}")
    return test_loss


if __name__ == "__main__":
    final = fit(config)
    print(f"final test loss {final:.4f}")
