import math
from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F

SEED = 0
LR = 5e-3


@dataclass
class Config:
    vocab: int = 24
    block: int = 20
    dim: int = 32
    heads: int = 2
    layers: int = 2
    batch: int = 16
    steps: int = 160
    warmup: int = 20
    weight_decay: float = 0.01


def make_corpus(cfg, length=6000):
    """Words of a small made-up language: a stem, a repeated stem, a full stop."""
    g = torch.Generator().manual_seed(SEED)
    text = []
    while len(text) < length:
        n = int(torch.randint(2, 5, (1,), generator=g))
        start = int(torch.randint(1, cfg.vocab, (1,), generator=g))
        word = [(start + 3 * i) % (cfg.vocab - 1) + 1 for i in range(n)]
        text += word + word[::-1] + [0]
    return torch.tensor(text[:length])


def get_batch(data, cfg):
    start = torch.randint(0, len(data) - cfg.block - 1, (cfg.batch,)).tolist()
    x = torch.stack([data[i : i + cfg.block] for i in start])
    y = torch.stack([data[i + 1 : i + cfg.block + 1] for i in start])
    return x, y


class Attention(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.heads = cfg.heads
        self.qkv = nn.Linear(cfg.dim, 3 * cfg.dim)
        self.proj = nn.Linear(cfg.dim, cfg.dim)
        self.register_buffer("mask", torch.tril(torch.ones(cfg.block, cfg.block)).bool())

    def forward(self, x):
        b, t, d = x.shape
        q, k, v = self.qkv(x).view(b, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        att = q @ k.transpose(-2, -1) / math.sqrt(d // self.heads)
        att = att.masked_fill(~self.mask[:t, :t], float("-inf"))
        att = att.softmax(dim=-1)
        return self.proj((att @ v).transpose(1, 2).reshape(b, t, d))


class Block(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.ln1 = nn.LayerNorm(cfg.dim)
        self.attn = Attention(cfg)
        self.ln2 = nn.LayerNorm(cfg.dim)
        self.mlp = nn.Sequential(nn.Linear(cfg.dim, 4 * cfg.dim), nn.GELU(), nn.Linear(4 * cfg.dim, cfg.dim))

    def forward(self, x):
        x = x + self.attn(self.ln1(x))
        return x + self.mlp(self.ln2(x))


class GPT(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.tok = nn.Embedding(cfg.vocab, cfg.dim)
        self.pos = nn.Embedding(cfg.block, cfg.dim)
        self.blocks = nn.ModuleList(Block(cfg) for _ in range(cfg.layers))
        self.ln_f = nn.LayerNorm(cfg.dim)
        self.head = nn.Linear(cfg.dim, cfg.vocab, bias=False)
        self.apply(self.init_weights)

    def init_weights(self, module):
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=0.05)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)

    def forward(self, idx, targets):
        x = self.tok(idx) + self.pos(torch.arange(idx.shape[1]))
        for block in self.blocks:
            x = block(x)
        logits = self.head(self.ln_f(x))
        loss = F.cross_entropy(logits.view(-1, logits.shape[-1]), targets.reshape(-1))
        return logits, loss


def lr_at(step, cfg):
    if step < cfg.warmup:
        return LR * (step + 1) / cfg.warmup
    done = (step - cfg.warmup) / (cfg.steps - cfg.warmup)
    return LR * (0.1 + 0.45 * (1 + math.cos(math.pi * done)))


def train(cfg):
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    data = make_corpus(cfg)
    model = GPT(cfg)
    decay = [p for p in model.parameters() if p.dim() >= 2]
    other = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": decay, "weight_decay": cfg.weight_decay}, {"params": other, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=LR, betas=(0.9, 0.98))
    losses = []
    for step in range(cfg.steps):
        for group in optimizer.param_groups:
            group["lr"] = lr_at(step, cfg)
        x, y = get_batch(data, cfg)
        _, loss = model(x, y)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        if step % 40 == 0:
            print(f"step {step:4d} loss {losses[-1]:.4f}")
    return sum(losses[-20:]) / 20


if __name__ == "__main__":
    print(f"final loss {train(Config()):.4f}")
