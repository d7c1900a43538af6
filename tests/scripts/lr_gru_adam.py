"""GRU that guesses the commonest symbol of a sequence; Adam, a schedule, early stopping on a bad loss."""
import sys

import torch
from torch import nn


def nll(logits, target):
    probabilities = torch.softmax(logits, dim=1)
    return -torch.log(probabilities)[torch.arange(len(target)), target].mean()


class Majority(nn.Module):
    def __init__(self, symbols=6, hidden=24):
        super().__init__()
        self.embed = nn.Embedding(symbols, 12)
        self.gru = nn.GRU(12, hidden, batch_first=True)
        self.head = nn.Linear(hidden, symbols)

    def forward(self, x):
        return self.head(self.gru(self.embed(x))[0].mean(1))


def main():
    torch.manual_seed(15)
    model = Majority()
    optimizer = torch.optim.Adam(model.parameters(), lr=3.0)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.999)
    for step in range(60):
        x = torch.randint(0, 6, (24, 9))
        target = nn.functional.one_hot(x, 6).sum(1).argmax(1)
        loss = nll(model(x), target)
        print(f"step {step} loss {loss.item():.4f} lr {optimizer.param_groups[0]['lr']:.4f}")
        if not torch.isfinite(loss):
            print("giving up", file=sys.stderr)
            sys.exit(3)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
    print("checksum", model.head.weight.sum().item())


main()
