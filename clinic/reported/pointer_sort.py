"""Pointer network that learns to visit items in ascending order of price; ragged lists, teacher forcing."""
from typing import NamedTuple

import torch
from torch import Tensor, nn

SEED = 0

hp = dict(hidden=32, batch=32, iters=240, lr=6e-3, clip=2.0, min_items=4, max_items=7, log_every=30)


class Batch(NamedTuple):
    items: Tensor  # (b, n, 2) price and weight, padded with 0
    lengths: Tensor
    order: Tensor  # (b, n), -1 after the end


class Market:
    def __init__(self, seed: int):
        self.rng = torch.Generator().manual_seed(seed)

    def next(self, size: int) -> Batch:
        n = hp["max_items"]
        lengths = torch.randint(hp["min_items"], n + 1, (size,), generator=self.rng)
        price = torch.rand(size, n, generator=self.rng)
        weight = torch.rand(size, n, generator=self.rng)
        valid = torch.arange(n) < lengths[:, None]
        order = price.masked_fill(~valid, 9.0).argsort(1)
        order = order.masked_fill(~valid, -1)
        items = torch.stack([price, weight], -1)
        items = (items - 0.5) / 0.29 * valid[..., None]
        return Batch(items, lengths, order)


class Pointer(nn.Module):
    """Additive attention of the decoder's state on the encoder's outputs."""

    def __init__(self, hidden: int):
        super().__init__()
        self.w_enc = nn.Linear(hidden, hidden, bias=False)
        self.w_dec = nn.Linear(hidden, hidden)
        self.v = nn.Linear(hidden, 1, bias=False)

    def forward(self, keys: Tensor, state: Tensor, free: Tensor) -> Tensor:
        energy = torch.tanh(keys + self.w_dec(state)[:, None])
        score = self.v(energy).squeeze(-1)
        score = score.masked_fill(~free, float("-inf"))
        return torch.log_softmax(score, dim=-1)


class PointerNet(nn.Module):
    def __init__(self, hidden: int):
        super().__init__()
        self.embed = nn.Sequential(nn.Linear(2, hidden), nn.ReLU(), nn.Linear(hidden, hidden))
        self.encoder = nn.LSTM(hidden, hidden, batch_first=True)
        self.cell = nn.LSTMCell(hidden, hidden)
        self.start = nn.Parameter(torch.zeros(hidden))
        self.pointer = Pointer(hidden)

    def forward(self, batch: Batch) -> Tensor:
        b, n, _ = batch.items.shape
        emb = self.embed(batch.items)
        enc, (h, c) = self.encoder(emb)
        h, c = h[0], c[0]
        keys = self.pointer.w_enc(enc + emb)
        free = torch.arange(n) < batch.lengths[:, None]
        token = self.start.expand(b, -1)
        out = []
        for t in range(n):
            h, c = self.cell(token, (h, c))
            open_ = free | (t >= batch.lengths)[:, None]
            out.append(self.pointer(keys, h, open_))
            chosen = batch.order[:, t].clamp(min=0)
            free = free.scatter(1, chosen[:, None], False)
            token = emb[torch.arange(b), chosen]
        return torch.stack(out, 1)


def pointer_loss(logp: Tensor, order: Tensor) -> Tensor:
    used = order >= 0
    picked = logp.gather(2, order.clamp(min=0)[..., None]).squeeze(-1)
    return -torch.where(used, picked, torch.zeros_like(picked)).sum() / used.sum()


def run() -> float:
    torch.manual_seed(SEED)
    market = Market(SEED + 1)
    model = PointerNet(hp["hidden"])
    optimizer = torch.optim.Adam(model.parameters(), lr=hp["lr"])
    recent = []
    for i in range(1, hp["iters"] + 1):
        batch = market.next(hp["batch"])
        logp = model(batch)
        loss = pointer_loss(logp, batch.order)
        optimizer.zero_grad()
        loss.backward()
        grad_norm = nn.utils.clip_grad_norm_(model.parameters(), hp["clip"])
        optimizer.step()
        recent = (recent + [loss.item()])[-20:]
        if i % hp["log_every"] == 0:
            print(f"iter {i:>4} nll {sum(recent) / len(recent):.3f} |g| {grad_norm:.2f}")
    return sum(recent) / len(recent)


if __name__ == "__main__":
    print(f"final nll {run():.4f}")
