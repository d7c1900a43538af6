import random

import torch
from torch import nn

SEED = 0
LR = 4e-3
HIDDEN = 64
SEQ = 32
BATCH = 16
STEPS = 240
CLIP = 5.0

random.seed(SEED)
torch.manual_seed(SEED)

NAMES = ["alice", "bruno", "chloe", "dmitri", "elena", "farid"]
VERBS = ["paints", "repairs", "sells", "remembers", "borrows"]
THINGS = ["the old clock", "a red boat", "seven lamps", "the garden wall", "a silver ring"]


def sentence():
    name = random.choice(NAMES)
    return f"{name} {random.choice(VERBS)} {random.choice(THINGS)} and {name} sings. "


text = "".join(sentence() for _ in range(800))
chars = sorted(set(text))
stoi = {c: i for i, c in enumerate(chars)}
data = torch.tensor([stoi[c] for c in text])
split = int(0.9 * len(data))
train_data, val_data = data[:split], data[split:]


class CharModel(nn.Module):
    def __init__(self, vocab, hidden):
        super().__init__()
        self.embed = nn.Embedding(vocab, 24)
        self.rnn = nn.LSTM(24, hidden, batch_first=True)
        self.head = nn.Linear(hidden, vocab)

    def forward(self, tokens, state=None):
        h, state = self.rnn(self.embed(tokens), state)
        return self.head(h), state


def get_batch(source):
    starts = torch.randint(0, len(source) - SEQ - 1, (BATCH,))
    x = torch.stack([source[s : s + SEQ] for s in starts])
    y = torch.stack([source[s + 1 : s + SEQ + 1] for s in starts])
    return x, y


model = CharModel(len(chars), HIDDEN)
optimizer = torch.optim.Adam(model.parameters(), lr=LR)
criterion = nn.CrossEntropyLoss()
history = []

for step in range(STEPS):
    x, y = get_batch(train_data)
    logits, _ = model(x)
    loss = criterion(logits.reshape(-1, len(chars)), y.reshape(-1))
    optimizer.zero_grad()
    loss.backward()
    norm = nn.utils.clip_grad_norm_(model.parameters(), CLIP)
    optimizer.step()
    history.append(loss.item())
    if step % 40 == 0:
        print(f"step {step:4d} | loss {loss.item():.3f} | grad {norm.item():.3f}")

model.eval()
with torch.no_grad():
    total = 0.0
    for _ in range(10):
        x, y = get_batch(val_data)
        logits, _ = model(x)
        total += criterion(logits.reshape(-1, len(chars)), y.reshape(-1)).item()
print(f"train loss {sum(history[-20:]) / 20:.4f}")
print(f"final loss {total / 10:.4f}")
