"""A hand-written loop on scikit-learn's digits that prints the guide's lines and writes training_history.csv."""

import csv
import sys

import torch
from sklearn.datasets import load_digits
from torch import nn

SICK = sys.argv[1] == "sick"
torch.manual_seed(1)
x, y = (torch.as_tensor(a) for a in load_digits(return_X_y=True))
x = x.float() / 16
train_x, train_y, val_x, val_y = x[:1500], y[:1500], x[1500:], y[1500:]


class Normalise(nn.Module):
    """By hand. Of a last batch that holds one row the deviation is 0, and the derivative of its root infinite."""

    def forward(self, h):
        return (h - h.mean(0)) / (h.var(0, unbiased=False).sqrt() + 1e-5) if SICK and self.training else h


model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), Normalise(), nn.ReLU(), nn.Linear(64, 10))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)


history = []
epochs = 15
for epoch in range(epochs):
    total = 0.0
    model.train()
    order = torch.randperm(len(train_x))[: -int(torch.randint(0, 100, ())) or None]
    for rows in order.split(15):
        loss = nn.functional.cross_entropy(model(train_x[rows]), train_y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(rows)
    model.eval()
    with torch.no_grad():
        out = model(val_x)
        loss, acc = nn.functional.cross_entropy(out, val_y).item(), (out.argmax(1) == val_y).float().mean().item()
    mean = total / len(order)
    print(f"Epoch {epoch + 1}/{epochs} | Train Loss: {mean:.4f} | Val Loss: {loss:.4f} | Val Acc: {acc:.4f}")
    history.append([epoch + 1, mean, loss, acc])
with open("training_history.csv", "w", newline="") as file:
    csv.writer(file).writerows([["epoch", "train_loss", "val_loss", "val_acc"], *history])
