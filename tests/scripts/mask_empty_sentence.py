"""Transformer encoder by hand for padded sentences; padding is masked with -inf."""
import math

import torch
from torch import nn


class Attention(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(dim, dim)
        self.k = nn.Linear(dim, dim)
        self.v = nn.Linear(dim, dim)
        self.o = nn.Linear(dim, dim)

    def split(self, x):
        return x.view(x.shape[0], x.shape[1], self.heads, -1).transpose(1, 2)

    def forward(self, x, padding):
        q, k, v = self.split(self.q(x)), self.split(self.k(x)), self.split(self.v(x))
        scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
        scores = scores.masked_fill(padding[:, None, None, :], float("-inf"))
        weights = scores.softmax(dim=-1)
        return self.o((weights @ v).transpose(1, 2).flatten(2))


class Layer(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.attn = Attention(dim, 2)
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.ff = nn.Sequential(nn.Linear(dim, 2 * dim), nn.ReLU(), nn.Linear(2 * dim, dim))

    def forward(self, x, padding):
        x = x + self.attn(self.norm1(x), padding)
        return x + self.ff(self.norm2(x))


class Classifier(nn.Module):
    def __init__(self, vocab=40, dim=16):
        super().__init__()
        self.embed = nn.Embedding(vocab, dim, padding_idx=0)
        self.layers = nn.ModuleList([Layer(dim), Layer(dim)])
        self.head = nn.Linear(dim, 2)

    def forward(self, tokens):
        padding = tokens == 0
        x = self.embed(tokens)
        for layer in self.layers:
            x = layer(x, padding)
        return self.head(x[:, 0])


def batch(step):
    tokens = torch.randint(1, 40, (8, 10))
    for row in range(8):
        tokens[row, torch.randint(3, 11, (1,)).item() :] = 0
    if step == 13:
        tokens[5] = 0  # an empty line in the corpus
    return tokens, (tokens[:, 0] > 20).long()


torch.manual_seed(21)
model = Classifier()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3, betas=(0.9, 0.98))
for step in range(20):
    tokens, labels = batch(step)
    loss = nn.functional.cross_entropy(model(tokens), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(f"step {step:3d}  loss {loss.item():.4f}")
print("checksum", sum(p.abs().sum().item() for p in model.parameters()))
