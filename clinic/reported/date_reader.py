"""Reads dates as people write them ("3 mar 97", "12/07/2004") and writes them as 1997-03-03.

Encoder: bidirectional GRU. Decoder: GRU cell with additive attention over the letters, teacher forcing.
"""

import argparse
import random

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.nn.utils.rnn import pad_sequence

SEED = 42
MONTHS = "jan feb mar apr may jun jul aug sep oct nov dec".split()
LETTERS = "_<>" + "0123456789" + "abcdefghijklmnopqrstuvwxyz" + " ,/-"
INDEX = {letter: i for i, letter in enumerate(LETTERS)}
PAD, BOS, EOS = 0, 1, 2


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hidden", type=int, default=48)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--iters", type=int, default=150)
    parser.add_argument("--lr", type=float, default=4e-3)
    parser.add_argument("--clip", type=float, default=1.0)
    parser.add_argument("--teacher", type=float, default=0.9, help="share of steps that see the true letter")
    return parser.parse_args()


def random_date(rng):
    day, month, year = rng.randint(1, 28), rng.randint(1, 12), rng.randint(1970, 2019)
    written = rng.choice(
        [
            f"{day} {MONTHS[month - 1]} {year}",
            f"{MONTHS[month - 1]} {day}, {year}",
            f"{day:02d}/{month:02d}/{year}",
            f"{year}-{month:02d}-{day:02d}",
        ]
    )
    return written, f"{year}-{month:02d}-{day:02d}"


def encode(text):
    return torch.tensor([INDEX[letter] for letter in text])


def make_batch(rng, size):
    pairs = [random_date(rng) for _ in range(size)]
    source = pad_sequence([encode(written) for written, _ in pairs], batch_first=True, padding_value=PAD)
    target = torch.stack([encode("<" + answer + ">") for _, answer in pairs])
    return source, target


class Attention(nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.query = nn.Linear(hidden, hidden)
        self.key = nn.Linear(2 * hidden, hidden)
        self.energy = nn.Linear(hidden, 1)

    def forward(self, state, memory, mask):
        scores = self.energy(torch.tanh(self.query(state)[:, None] + self.key(memory))).squeeze(2)
        scores = scores.masked_fill(~mask, float("-inf"))
        weights = torch.softmax(scores, dim=1)
        return torch.bmm(weights[:, None], memory).squeeze(1)


class DateReader(nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.embed = nn.Embedding(len(LETTERS), 24, padding_idx=PAD)
        self.encoder = nn.GRU(24, hidden, batch_first=True, bidirectional=True)
        self.bridge = nn.Linear(2 * hidden, hidden)
        self.attention = Attention(hidden)
        self.cell = nn.GRUCell(24 + 2 * hidden, hidden)
        self.out = nn.Linear(3 * hidden, len(LETTERS))

    def forward(self, source, target, teacher, rng):
        mask = source != PAD
        memory, _ = self.encoder(self.embed(source))
        pooled = (memory * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        state = torch.tanh(self.bridge(pooled))
        letter = target[:, 0]
        logits = []
        for t in range(1, target.shape[1]):
            context = self.attention(state, memory, mask)
            state = self.cell(torch.cat([self.embed(letter), context], dim=1), state)
            logits.append(self.out(torch.cat([state, context], dim=1)))
            letter = target[:, t] if rng.random() < teacher else logits[-1].argmax(1)
        return torch.stack(logits, dim=1)


def main():
    args = arguments()
    torch.manual_seed(SEED)
    rng = random.Random(SEED)
    model = DateReader(args.hidden)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=1e-4)
    losses = []
    for i in range(args.iters):
        source, target = make_batch(rng, args.batch)
        logits = model(source, target, args.teacher, rng)
        loss = F.cross_entropy(logits.flatten(0, 1), target[:, 1:].flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), args.clip)
        optimizer.step()
        losses.append(loss.item())
        if i % 50 == 0:
            print(f"iter {i} loss {loss.item():.3f}")
    with torch.no_grad():
        source, target = make_batch(random.Random(SEED + 1), 128)
        guess = model(source, target, 1.0, rng).argmax(2)
        print(f"letters right {(guess == target[:, 1:]).float().mean().item():.3f}")
    print(f"final loss {sum(losses[-15:]) / 15:.4f}")


if __name__ == "__main__":
    main()
