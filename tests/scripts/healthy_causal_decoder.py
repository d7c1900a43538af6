"""Causal transformer decoder by hand: half of all attention scores are -inf, every row keeps one."""
import math

import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.proj = nn.Linear(dim, dim)
        self.ln1, self.ln2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim), nn.Dropout(0.1))
        self.register_buffer("mask", torch.triu(torch.full((16, 16), float("-inf")), diagonal=1))

    def forward(self, x):
        q, k, v = self.qkv(self.ln1(x)).chunk(3, -1)
        scores = q @ k.mT / math.sqrt(q.shape[-1]) + self.mask[: x.shape[1], : x.shape[1]]
        x = x + self.proj(torch.softmax(scores, -1) @ v)
        return x + self.mlp(self.ln2(x))


class Decoder(nn.Module):
    def __init__(self, vocab=24, dim=32):
        super().__init__()
        self.tokens, self.places = nn.Embedding(vocab, dim), nn.Embedding(16, dim)
        self.blocks = nn.Sequential(Block(dim), Block(dim))
        self.head = nn.Linear(dim, vocab, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, tokens, targets=None):
        logits = self.head(self.blocks(self.tokens(tokens) + self.places.weight[: tokens.shape[1]]))
        if targets is None:
            return logits
        return nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100)


def main():
    torch.manual_seed(3)
    model = Decoder()
    decay = [p for p in model.parameters() if p.dim() > 1]
    rest = [p for p in model.parameters() if p.dim() <= 1]
    optimizer = torch.optim.AdamW([{"params": decay, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}], lr=3e-3)
    for step in range(25):
        tokens = (torch.arange(13) + torch.randint(0, 24, (8, 1))) % 24
        targets = tokens[:, 1:].clone()
        targets[:, :2] = -100
        loss = model(tokens[:, :-1], targets)
        loss.backward()
        if (step + 1) % 2 == 0:
            optimizer.step()
            optimizer.zero_grad()
        print(step, loss.item())
    print("checksum", model.head.weight.norm().item())


main()
