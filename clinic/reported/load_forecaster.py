import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

SEED = 0
LR = 3e-3


@dataclass
class Config:
    context: int = 24
    horizon: int = 4
    width: int = 32
    heads: int = 4
    layers: int = 2
    batch: int = 16
    accumulate: int = 2
    warmup: int = 20
    updates: int = 160
    clip: float = 1.0


def simulate(hours, rng):
    t = np.arange(hours)
    temperature = 12 + 8 * np.sin(2 * np.pi * t / 24 - 2) + rng.normal(0, 1, hours)
    load = 50 + 14 * np.sin(2 * np.pi * t / 24) + 6 * np.sin(2 * np.pi * t / 168) - 0.8 * temperature
    load = load + rng.normal(0, 1.5, hours)
    seen = rng.random(hours) > 0.08
    return load, temperature, seen


def make_windows(load, temperature, seen, cfg):
    load = (load - load.mean()) / load.std()
    temperature = (temperature - temperature.mean()) / temperature.std()
    inputs, keep, targets = [], [], []
    for start in range(0, len(load) - cfg.context - cfg.horizon, 3):
        stop = start + cfg.context
        known = seen[start:stop].copy()
        known[-1] = True
        inputs.append(np.stack([load[start:stop] * known, temperature[start:stop]], axis=1))
        keep.append(known)
        targets.append(load[stop : stop + cfg.horizon])
    return (
        torch.tensor(np.array(inputs), dtype=torch.float32),
        torch.tensor(np.array(keep)),
        torch.tensor(np.array(targets), dtype=torch.float32),
    )


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x, keep):
        b, n, d = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-2, -1) / math.sqrt(d // self.heads)
        scores = scores.masked_fill(~keep[:, None, None, :], float("-inf"))
        mixed = scores.softmax(dim=-1) @ v
        return self.proj(mixed.transpose(1, 2).reshape(b, n, d))


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.up = nn.Linear(width, 2 * width)
        self.down = nn.Linear(2 * width, width)

    def forward(self, x, keep):
        x = x + self.attn(self.norm1(x), keep)
        return x + self.down(F.relu(self.up(self.norm2(x))))


class Forecaster(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.embed = nn.Linear(2, cfg.width)
        self.position = nn.Parameter(0.02 * torch.randn(cfg.context, cfg.width))
        self.blocks = nn.ModuleList(Block(cfg.width, cfg.heads) for _ in range(cfg.layers))
        self.norm = nn.LayerNorm(cfg.width)
        self.head = nn.Linear(cfg.width, cfg.horizon)

    def forward(self, x, keep):
        h = self.embed(x) + self.position
        for block in self.blocks:
            h = block(h, keep)
        return self.head(self.norm(h[:, -1]))


def ramp_cosine(cfg):
    def factor(step):
        if step < cfg.warmup:
            return (step + 1) / cfg.warmup
        done = (step - cfg.warmup) / (cfg.updates - cfg.warmup)
        return 0.05 + 0.475 * (1 + math.cos(math.pi * min(done, 1.0)))

    return factor


def forever(loader):
    while True:
        yield from loader


def main():
    cfg = Config()
    torch.manual_seed(SEED)
    rng = np.random.default_rng(SEED)
    inputs, keep, targets = make_windows(*simulate(3000, rng), cfg)
    loader = DataLoader(TensorDataset(inputs, keep, targets), batch_size=cfg.batch, shuffle=True, drop_last=True)
    model = Forecaster(cfg)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=0.01)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, ramp_cosine(cfg))
    scaler = torch.amp.GradScaler("cpu")
    batches = forever(loader)
    history = []
    for update in range(cfg.updates):
        for _ in range(cfg.accumulate):
            x, known, y = next(batches)
            with torch.autocast("cpu", dtype=torch.float16):
                prediction = model(x, known)
                loss = F.mse_loss(prediction.float(), y)
            scaler.scale(loss / cfg.accumulate).backward()
            history.append(loss.item())
        scaler.unscale_(optimizer)
        norm = nn.utils.clip_grad_norm_(model.parameters(), cfg.clip)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        scheduler.step()
        if update % 20 == 0:
            print(f"update {update} mse {history[-1]:.4f} norm {norm:.3f} lr {scheduler.get_last_lr()[0]:.2e}")
    print(f"final mse {sum(history[-30:]) / 30:.4f}")


if __name__ == "__main__":
    main()
