"""Elman network that adds up marked numbers; sequences differ in length from batch to batch."""
import torch
from torch import nn


class Adder(nn.Module):
    def __init__(self, hidden=24):
        super().__init__()
        self.rnn = nn.RNN(2, hidden, nonlinearity="relu", batch_first=True)
        self.head = nn.Linear(hidden, 1)
        nn.init.eye_(self.rnn.weight_hh_l0)  # identity start, as in IRNN
        with torch.no_grad():
            self.rnn.weight_hh_l0.mul_(1.15)

    def forward(self, x):
        out, _ = self.rnn(x)
        return self.head(out[:, -1]).squeeze(-1)


def make_batch(length, size=16):
    values = torch.rand(size, length)
    marks = torch.zeros(size, length)
    for row in range(size):
        marks[row, torch.randperm(length)[:2]] = 1.0
    return torch.stack([values, marks], dim=-1), (values * marks).sum(1)


def main():
    torch.manual_seed(5)
    model = Adder()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.002)
    lengths = [6, 8, 6, 7, 9, 6, 8, 7] * 4
    lengths[21] = 230  # one very long document
    for step, length in enumerate(lengths):
        x, y = make_batch(length)
        loss = nn.functional.mse_loss(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(step, length, f"{loss.item():.5f}")
    print("checksum", model.head.weight.sum().item())


main()
