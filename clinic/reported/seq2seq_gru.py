import random

import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

SEED = 0
LR = 6e-3
PAD, BOS, EOS = 0, 1, 2
VOCAB = 12
HIDDEN = 40
EPOCHS = 10


class ReverseDataset(Dataset):
    """Sequences of symbols; the target is the sequence in reverse order."""

    def __init__(self, size, seed):
        rng = random.Random(seed)
        self.items = []
        for _ in range(size):
            length = rng.randint(2, 7)
            source = [rng.randint(3, VOCAB - 1) for _ in range(length)]
            self.items.append((source, source[::-1]))

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        source, target = self.items[i]
        return torch.tensor(source), torch.tensor([BOS] + target + [EOS])


def collate(batch):
    sources, targets = zip(*batch)
    lengths = torch.tensor([len(s) for s in sources])
    return pad_sequence(sources, batch_first=True), lengths, pad_sequence(targets, batch_first=True)


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(VOCAB, HIDDEN, padding_idx=PAD)
        self.rnn = nn.GRU(HIDDEN, HIDDEN, batch_first=True)

    def forward(self, source):
        x = self.embed(source)
        states, last = self.rnn(x)
        return states, last


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(VOCAB, HIDDEN, padding_idx=PAD)
        self.rnn = nn.GRU(HIDDEN, HIDDEN, batch_first=True)
        self.query = nn.Linear(HIDDEN, HIDDEN)
        self.mix = nn.Linear(2 * HIDDEN, HIDDEN)
        self.out = nn.Linear(HIDDEN, VOCAB)

    def forward(self, tokens, states, mask, hidden):
        x = self.embed(tokens)
        h, hidden = self.rnn(x, hidden)
        scores = self.query(h) @ states.transpose(1, 2) / HIDDEN**0.5
        scores = scores.masked_fill(~mask[:, None, :], float("-inf"))
        context = torch.softmax(scores, dim=-1) @ states
        h = torch.relu(self.mix(torch.cat([h, context], dim=-1)))
        return self.out(h)


class Seq2Seq(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = Encoder()
        self.decoder = Decoder()

    def forward(self, source, lengths, tokens):
        states, last = self.encoder(source)
        mask = torch.arange(source.shape[1])[None, :] < lengths[:, None]
        return self.decoder(tokens, states, mask, last)


class Trainer:
    def __init__(self, model, loader, lr):
        self.model, self.loader = model, loader
        self.optimizer = torch.optim.Adam(model.parameters(), lr=lr)
        self.criterion = nn.CrossEntropyLoss(ignore_index=PAD)
        self.history = []

    def loss(self, batch):
        source, lengths, target = batch
        logits = self.model(source, lengths, target[:, :-1])
        return self.criterion(logits.reshape(-1, VOCAB), target[:, 1:].reshape(-1))

    def train_step(self, batch):
        loss = self.loss(batch)
        self.optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.history.append(loss.item())

    def fit(self, epochs):
        for epoch in range(epochs):
            for batch in self.loader:
                self.train_step(batch)
            print(f"epoch {epoch}: loss {self.history[-1]:.4f}")


torch.manual_seed(SEED)
torch.set_num_threads(1)
model = Seq2Seq()
data = ReverseDataset(800, SEED)
loader = DataLoader(data, batch_size=40, shuffle=True, collate_fn=collate)
trainer = Trainer(model, loader, LR)
trainer.fit(EPOCHS)
recent = trainer.history[-20:]
print(f"final loss {sum(recent) / len(recent):.4f}")
