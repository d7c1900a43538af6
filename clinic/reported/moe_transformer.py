import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

SEED = 0
LR = 4e-3


@dataclass
class Config:
    vocab: int = 12
    length: int = 24
    dim: int = 48
    heads: int = 4
    layers: int = 2
    experts: int = 4
    top_k: int = 2
    batch: int = 24
    steps: int = 180
    warmup: int = 20
    accumulate: int = 1
    balance: float = 0.01
    clip: float = 1.0
    amp: bool = False
    dropout: float = 0.0


class Corpus:
    def __init__(self, cfg, sequences=600):
        self.cfg = cfg
        rule = torch.randint(cfg.vocab, (cfg.vocab, cfg.vocab))
        tokens = torch.randint(cfg.vocab, (sequences, cfg.length + 1))
        for t in range(2, cfg.length + 1):
            follow = rule[tokens[:, t - 2], tokens[:, t - 1]]
            keep = torch.rand(sequences) < 0.9
            tokens[:, t] = torch.where(keep, follow, tokens[:, t])
        self.train, self.valid = tokens[:-60], tokens[-60:]

    def batch(self):
        pick = torch.randint(len(self.train), (self.cfg.batch,))
        rows = self.train[pick]
        return rows[:, :-1], rows[:, 1:]


class Attention(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.heads = cfg.heads
        self.qkv = nn.Linear(cfg.dim, 3 * cfg.dim)
        self.proj = nn.Linear(cfg.dim, cfg.dim)
        causal = torch.ones(cfg.length, cfg.length).triu(1).bool()
        self.register_buffer("causal", causal)

    def forward(self, x):
        b, t, d = x.shape
        q, k, v = self.qkv(x).view(b, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-2, -1) / math.sqrt(d // self.heads)
        scores = scores.masked_fill(self.causal[:t, :t], float("-inf"))
        weights = scores.softmax(dim=-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(b, t, d))


class Expert(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.up = nn.Linear(dim, 2 * dim)
        self.down = nn.Linear(2 * dim, dim)

    def forward(self, x):
        return self.down(F.relu(self.up(x)))


class MixtureOfExperts(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.top_k = cfg.top_k
        self.gate = nn.Linear(cfg.dim, cfg.experts, bias=False)
        self.experts = nn.ModuleList(Expert(cfg.dim) for _ in range(cfg.experts))

    def forward(self, x):
        flat = x.reshape(-1, x.size(-1))
        probs = self.gate(flat).float().softmax(dim=-1)
        top, index = probs.topk(self.top_k, dim=-1)
        top = top / top.sum(dim=-1, keepdim=True)
        out = torch.zeros_like(flat)
        for e, expert in enumerate(self.experts):
            rows, slot = (index == e).nonzero(as_tuple=True)
            if len(rows) == 0:
                continue
            share = top[rows, slot].unsqueeze(-1)
            out = out.index_add(0, rows, (expert(flat[rows]) * share).to(out.dtype))
        load = F.one_hot(index[:, 0], len(self.experts)).float().mean(0)
        balance = len(self.experts) * (load * probs.mean(0)).sum()
        return out.view_as(x), balance


class Block(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.norm1 = nn.LayerNorm(cfg.dim)
        self.attn = Attention(cfg)
        self.norm2 = nn.LayerNorm(cfg.dim)
        self.moe = MixtureOfExperts(cfg)
        self.drop = nn.Dropout(cfg.dropout)

    def forward(self, x):
        x = x + self.drop(self.attn(self.norm1(x)))
        mixed, balance = self.moe(self.norm2(x))
        return x + self.drop(mixed), balance


class Model(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.tok = nn.Embedding(cfg.vocab, cfg.dim)
        self.pos = nn.Embedding(cfg.length, cfg.dim)
        self.blocks = nn.ModuleList(Block(cfg) for _ in range(cfg.layers))
        self.norm = nn.LayerNorm(cfg.dim)
        self.out = nn.Linear(cfg.dim, cfg.vocab)

    def forward(self, tokens):
        place = torch.arange(tokens.size(1))
        x = self.tok(tokens) + self.pos(place)
        balance = x.new_zeros(())
        for block in self.blocks:
            x, extra = block(x)
            balance = balance + extra
        return self.out(self.norm(x)), balance


class Trainer:
    def __init__(self, cfg):
        self.cfg = cfg
        self.data = Corpus(cfg)
        self.model = Model(cfg)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=LR, betas=(0.9, 0.98), weight_decay=0.01)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, self.warm)
        self.scaler = torch.amp.GradScaler("cpu", enabled=cfg.amp)

    def warm(self, step):
        return min(1.0, (step + 1) / self.cfg.warmup)

    def loss(self, tokens, target):
        with torch.autocast("cpu", dtype=torch.float16, enabled=self.cfg.amp):
            logits, balance = self.model(tokens)
        entropy = F.cross_entropy(logits.float().flatten(0, 1), target.flatten())
        return entropy + self.cfg.balance * balance

    def step(self):
        total = 0.0
        for _ in range(self.cfg.accumulate):
            loss = self.loss(*self.data.batch()) / self.cfg.accumulate
            self.scaler.scale(loss).backward()
            total += loss.item()
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.model.parameters(), self.cfg.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.schedule.step()
        return total

    @torch.no_grad()
    def validate(self):
        self.model.eval()
        rows = self.data.valid
        value = self.loss(rows[:, :-1], rows[:, 1:]).item()
        self.model.train()
        return value

    def run(self):
        for step in range(self.cfg.steps):
            loss = self.step()
            if step % 30 == 0:
                print(f"step {step:4d} loss {loss:.4f}")
        return self.validate()


if __name__ == "__main__":
    torch.manual_seed(SEED)
    trainer = Trainer(Config())
    print(f"final valid {trainer.run():.4f}")
