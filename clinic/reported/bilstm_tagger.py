import argparse
import random

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence
from torch.utils.data import DataLoader

SEED = 0
LR = 1e-2
PAD = 0
WORDS = 60
TAGS = 7
IGNORE = -100


def make_sentences(count, rng):
    kind = [rng.randrange(5) for _ in range(WORDS)]
    sentences = []
    for _ in range(count):
        words = [rng.randrange(1, WORDS) for _ in range(rng.randint(3, 14))]
        tags = []
        for i, word in enumerate(words):
            after = kind[words[i + 1]] if i + 1 < len(words) else 0
            tags.append(kind[word] if after < 3 else (kind[word] + after) % TAGS)
        sentences.append((torch.tensor(words), torch.tensor(tags)))
    return sentences


def collate(batch):
    words = pad_sequence([w for w, _ in batch], batch_first=True, padding_value=PAD)
    tags = pad_sequence([t for _, t in batch], batch_first=True, padding_value=IGNORE)
    lengths = torch.tensor([len(w) for w, _ in batch])
    return words, tags, lengths


class SelfAttention(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)

    def forward(self, x, mask):
        scores = self.query(x) @ self.key(x).transpose(1, 2) / x.size(-1) ** 0.5
        scores = scores.masked_fill(~mask.unsqueeze(1), float("-inf"))
        return torch.softmax(scores, dim=-1) @ self.value(x)


class Tagger(nn.Module):
    def __init__(self, embed=24, hidden=24):
        super().__init__()
        self.embed = nn.Embedding(WORDS, embed, padding_idx=PAD)
        self.lstm = nn.LSTM(embed, hidden, batch_first=True, bidirectional=True)
        self.attention = SelfAttention(2 * hidden)
        self.mix = nn.Linear(4 * hidden, 48)
        self.classify = nn.Linear(48, TAGS)

    def forward(self, words, lengths):
        mask = words != PAD
        packed = pack_padded_sequence(self.embed(words), lengths, batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True)
        context = self.attention(states, mask)
        h = torch.relu(self.mix(torch.cat([states, context], dim=-1)))
        return self.classify(h)


def tag_loss(logits, tags):
    return F.cross_entropy(logits.reshape(-1, TAGS), tags.reshape(-1), ignore_index=IGNORE)


def train_epoch(model, loader, optimizer, accumulate, clip):
    model.train()
    total, count = 0.0, 0
    optimizer.zero_grad()
    for i, (words, tags, lengths) in enumerate(loader):
        logits = model(words, lengths)
        loss = tag_loss(logits, tags)
        (loss / accumulate).backward()
        if (i + 1) % accumulate == 0:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
            optimizer.zero_grad()
        total += loss.item()
        count += 1
    return total / count


@torch.no_grad()
def validate(model, loader):
    model.eval()
    total = correct = tokens = 0
    for words, tags, lengths in loader:
        logits = model(words, lengths)
        keep = tags != IGNORE
        total += F.cross_entropy(logits[keep], tags[keep], reduction="sum").item()
        correct += (logits.argmax(-1)[keep] == tags[keep]).sum().item()
        tokens += keep.sum().item()
    return total / tokens, correct / tokens


def get_args():
    parser = argparse.ArgumentParser(description="sequence tagger")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--accumulate", type=int, default=2)
    parser.add_argument("--clip", type=float, default=1.0)
    return parser.parse_args()


def main():
    args = get_args()
    torch.manual_seed(SEED)
    rng = random.Random(SEED)
    sentences = make_sentences(1080, rng)
    train, valid = sentences[:960], sentences[960:]
    train_loader = DataLoader(train, batch_size=args.batch_size, shuffle=True, collate_fn=collate)
    valid_loader = DataLoader(valid, batch_size=40, collate_fn=collate)

    model = Tagger()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR)
    for epoch in range(args.epochs):
        loss = train_epoch(model, train_loader, optimizer, args.accumulate, args.clip)
        valid_loss, accuracy = validate(model, valid_loader)
        print(f"epoch {epoch}: train {loss:.4f} valid {valid_loss:.4f} accuracy {accuracy:.3f}")
    print(f"final valid loss {valid_loss:.4f}")


if __name__ == "__main__":
    main()
