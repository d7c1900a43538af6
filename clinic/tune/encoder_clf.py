import math
from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F

SEED = 0
LR = 2e-3


@dataclass
class Config:
    vocab: int = 24
    classes: int = 4
    dim: int = 48
    heads: int = 4
    layers: int = 2
    max_len: int = 20
    batch: int = 32
    steps: int = 220
    warmup: int = 20
    clip: float = 1.0


class SelfAttention(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.heads = cfg.heads
        self.qkv = nn.Linear(cfg.dim, 3 * cfg.dim)
        self.proj = nn.Linear(cfg.dim, cfg.dim)

    def forward(self, x, mask):
        b, t, d = x.shape
        q, k, v = self.qkv(x).view(b, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-2, -1) / math.sqrt(d // self.heads)
        scores = scores.masked_fill(~mask[:, None, None, :], float("-inf"))
        weights = torch.softmax(scores, dim=-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(b, t, d))


class Block(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.norm1 = nn.LayerNorm(cfg.dim)
        self.attn = SelfAttention(cfg)
        self.norm2 = nn.LayerNorm(cfg.dim)
        self.fc1 = nn.Linear(cfg.dim, 2 * cfg.dim)
        self.fc2 = nn.Linear(2 * cfg.dim, cfg.dim)

    def forward(self, x, mask):
        x = x + self.attn(self.norm1(x), mask)
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class Classifier(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.embed = nn.Embedding(cfg.vocab, cfg.dim, padding_idx=0)
        self.pos = nn.Parameter(0.02 * torch.randn(cfg.max_len, cfg.dim))
        self.blocks = nn.ModuleList(Block(cfg) for _ in range(cfg.layers))
        self.norm = nn.LayerNorm(cfg.dim)
        self.head = nn.Linear(cfg.dim, cfg.classes)

    def forward(self, tokens):
        mask = tokens != 0
        x = self.embed(tokens) + self.pos[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x, mask)
        x = self.norm(x) * mask[..., None]
        pooled = x.sum(1) / mask.sum(1, keepdim=True)
        return self.head(pooled)


def sample(cfg, generator):
    lengths = torch.randint(6, cfg.max_len + 1, (cfg.batch,), generator=generator)
    tokens = torch.randint(1, cfg.vocab, (cfg.batch, cfg.max_len), generator=generator)
    labels = torch.randint(0, cfg.classes, (cfg.batch,), generator=generator)
    plant = torch.rand(cfg.batch, cfg.max_len, generator=generator) < 0.3
    tokens = torch.where(plant, labels[:, None] + 1, tokens)
    tokens[torch.arange(cfg.max_len)[None, :] >= lengths[:, None]] = 0
    return tokens, labels


def train(cfg):
    torch.manual_seed(SEED)
    generator = torch.Generator().manual_seed(SEED + 1)
    model = Classifier(cfg)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=0.01)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: min(1.0, (s + 1) / cfg.warmup))
    losses = []
    for step in range(cfg.steps):
        tokens, labels = sample(cfg, generator)
        logits = model(tokens)
        loss = F.cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), cfg.clip)
        optimizer.step()
        scheduler.step()
        losses.append(loss.item())
        if step % 40 == 0:
            print(f"{step:4d} loss {losses[-1]:.4f} lr {scheduler.get_last_lr()[0]:.2e}")
    return sum(losses[-25:]) / 25


if __name__ == "__main__":
    result = train(Config())
    print(f"final loss {result:.4f}")
