"""Masked language model with tied embeddings on a toy grammar."""
import math

import torch
from torch import nn
import torch.nn.functional as F

SEED = 0
LR = 3e-3
PAD, MASK, FIRST = 0, 1, 2
VOCAB, DIM, HEADS, LAYERS, MAX_LEN = 34, 32, 4, 2, 16
STEPS, BATCH, WARMUP = 300, 32, 30


def sentences(n, gen):
    start = torch.randint(0, VOCAB - FIRST, (n, 1), generator=gen)
    stride = torch.randint(1, 4, (n, 1), generator=gen)
    ids = (start + stride * torch.arange(MAX_LEN)) % (VOCAB - FIRST) + FIRST
    length = torch.randint(8, MAX_LEN + 1, (n, 1), generator=gen)
    return ids.masked_fill(torch.arange(MAX_LEN) >= length, PAD)


def corrupt(ids, gen, rate=0.2):
    chosen = (torch.rand(ids.shape, generator=gen) < rate) & (ids != PAD)
    labels = ids.masked_fill(~chosen, -100)
    return ids.masked_fill(chosen, MASK), labels


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(DIM, 3 * DIM)
        self.out = nn.Linear(DIM, DIM)

    def forward(self, x, allowed):
        b, t, _ = x.shape
        q, k, v = self.qkv(x).view(b, t, 3, HEADS, DIM // HEADS).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-2, -1) / math.sqrt(DIM // HEADS)
        scores = scores.masked_fill(~allowed, float("-inf"))
        weights = scores.softmax(dim=-1)
        return self.out((weights @ v).transpose(1, 2).reshape(b, t, DIM))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1 = nn.LayerNorm(DIM)
        self.attn = Attention()
        self.norm2 = nn.LayerNorm(DIM)
        self.up = nn.Linear(DIM, 4 * DIM)
        self.down = nn.Linear(4 * DIM, DIM)

    def forward(self, x, allowed):
        x = x + self.attn(self.norm1(x), allowed)
        return x + self.down(F.relu(self.up(self.norm2(x))))


class MaskedLM(nn.Module):
    def __init__(self):
        super().__init__()
        self.tok = nn.Embedding(VOCAB, DIM)
        self.pos = nn.Embedding(MAX_LEN, DIM)
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.norm = nn.LayerNorm(DIM)
        self.bias = nn.Parameter(torch.zeros(VOCAB))
        nn.init.normal_(self.tok.weight, std=0.05)
        nn.init.normal_(self.pos.weight, std=0.05)

    def forward(self, ids):
        allowed = (ids != PAD)[:, None, None, :]
        x = self.tok(ids) + self.pos(torch.arange(ids.shape[1]))
        for block in self.blocks:
            x = block(x, allowed)
        return self.norm(x) @ self.tok.weight.t() + self.bias


def main():
    torch.manual_seed(SEED)
    gen = torch.Generator().manual_seed(SEED)
    corpus = sentences(2000, gen)
    model = MaskedLM()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: min(1.0, (s + 1) / WARMUP))
    history = []
    model.train()
    for step in range(STEPS):
        pick = torch.randint(0, len(corpus), (BATCH,), generator=gen)
        ids, labels = corrupt(corpus[pick], gen)
        optimizer.zero_grad()
        logits = model(ids)
        loss = F.cross_entropy(logits.view(-1, VOCAB), labels.view(-1), ignore_index=-100)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        history.append(loss.item())
        if step % 50 == 0:
            print(f"step {step:4d}  mlm loss {loss.item():.3f}  lr {schedule.get_last_lr()[0]:.2e}")
    print(f"final loss {sum(history[-20:]) / 20:.4f}")


main()
