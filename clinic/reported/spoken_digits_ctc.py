import argparse

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence

SEED = 0
LR = 4e-3
BLANK = 0


def parse():
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=160)
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--mels", type=int, default=16)
    parser.add_argument("--words", type=int, default=8)
    parser.add_argument("--hidden", type=int, default=40)
    parser.add_argument("--clip", type=float, default=2.0)
    return parser.parse_args()


class Corpus(torch.utils.data.Dataset):
    """Utterances: a few words, each a spectral pattern that lasts a few frames."""

    def __init__(self, count, words, mels, generator):
        self.patterns = torch.rand(words, 3, mels, generator=generator)
        self.items = [self._utter(generator, words, mels) for _ in range(count)]

    def _utter(self, generator, words, mels):
        said = torch.randint(0, words, (int(torch.randint(2, 5, (1,), generator=generator)),), generator=generator)
        frames = [torch.zeros(2, mels)]
        for word in said.tolist():
            stretch = int(torch.randint(2, 4, (1,), generator=generator))
            frames.append(self.patterns[word].repeat_interleave(stretch, 0))
            frames.append(torch.zeros(2, mels))
        power = torch.cat(frames)
        power = power + 0.1 * torch.rand(power.shape, generator=generator) + 0.01
        features = power.log()
        features = (features - features.mean()) / features.std()
        return features, said + 1

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


def collate(items):
    features, labels = zip(*items)
    lengths = torch.tensor([len(f) for f in features])
    label_lengths = torch.tensor([len(w) for w in labels])
    return pad_sequence(features, batch_first=True), lengths, torch.cat(labels), label_lengths


class Acoustic(nn.Module):
    def __init__(self, mels, hidden, classes):
        super().__init__()
        self.conv = nn.Conv1d(mels, hidden, 3, padding=1)
        self.norm = nn.BatchNorm1d(hidden)
        self.rnn = nn.GRU(hidden, hidden, batch_first=True, bidirectional=True)
        self.out = nn.Linear(2 * hidden, classes)
        with torch.no_grad():
            self.out.bias[BLANK] += 3.0

    def forward(self, features, lengths):
        x = self.conv(features.transpose(1, 2))
        x = torch.relu(self.norm(x)).transpose(1, 2)
        x, _ = self.rnn(x)
        return self.out(x).log_softmax(-1)


def evaluate(model, loader, criterion):
    model.eval()
    losses = []
    with torch.no_grad():
        for features, lengths, labels, label_lengths in loader:
            log_probs = model(features, lengths)
            losses.append(criterion(log_probs.transpose(0, 1), labels, lengths, label_lengths).item())
    return sum(losses) / len(losses)


args = parse()
torch.manual_seed(SEED)
generator = torch.Generator().manual_seed(SEED)
corpus = Corpus(420, args.words, args.mels, generator)
train_set, dev_set = torch.utils.data.random_split(corpus, [360, 60], generator=generator)
train_loader = torch.utils.data.DataLoader(train_set, args.batch, shuffle=True, collate_fn=collate, drop_last=True)
dev_loader = torch.utils.data.DataLoader(dev_set, 20, collate_fn=collate)
model = Acoustic(args.mels, args.hidden, args.words + 1)
criterion = nn.CTCLoss(blank=BLANK)
optimizer = torch.optim.Adam(model.parameters(), lr=LR)

step = 0
while step < args.steps:
    model.train()
    for features, lengths, labels, label_lengths in train_loader:
        log_probs = model(features, lengths)
        loss = criterion(log_probs.transpose(0, 1), labels, lengths, label_lengths)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), args.clip)
        optimizer.step()
        step += 1
        if step % 20 == 0:
            print("step", step, "ctc", round(loss.item(), 4))
        if step == args.steps:
            break

print(f"final dev ctc {evaluate(model, dev_loader, criterion):.4f}")
