import numpy as np
import pandas as pd
import torch
from torch import nn

SEED = 0
LR = 3e-3

CATEGORICAL = {"region": 8, "plan": 4, "device": 6}
NUMERIC = ["age", "usage", "tenure", "income"]
BATCH = 64
EPOCHS = 10


def make_frame(rows, seed):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({name: rng.integers(0, size, rows) for name, size in CATEGORICAL.items()})
    frame["age"] = rng.normal(40, 12, rows)
    frame["usage"] = rng.gamma(2.0, 30.0, rows)
    frame["tenure"] = rng.integers(0, 120, rows)
    frame["income"] = np.exp(rng.normal(10, 0.5, rows))
    effect = np.sin(frame["region"]) * 2 + (frame["plan"] == frame["device"] % 4) * 1.5
    frame["target"] = effect + 0.05 * frame["age"] + 0.02 * frame["usage"] * (frame["plan"] == 2) + np.log(frame["income"])
    frame["target"] += 0.2 * rng.normal(size=rows)
    return frame


def prepare(frame, stats):
    numeric = (frame[NUMERIC] - stats["mean"]) / stats["std"]
    x_num = torch.tensor(numeric.to_numpy(), dtype=torch.float32)
    x_cat = torch.tensor(frame[list(CATEGORICAL)].to_numpy())
    target = (frame["target"] - stats["target_mean"]) / stats["target_std"]
    return x_num, x_cat, torch.tensor(target.to_numpy(), dtype=torch.float32)


class WideDeep(nn.Module):
    def __init__(self, embed=6, hidden=(64, 32)):
        super().__init__()
        self.embeddings = nn.ModuleDict({n: nn.Embedding(s, embed) for n, s in CATEGORICAL.items()})
        self.wide = nn.ModuleDict({n: nn.Embedding(s, 1) for n, s in CATEGORICAL.items()})
        self.wide_num = nn.Linear(len(NUMERIC), 1)
        layers, width = [], embed * len(CATEGORICAL) + len(NUMERIC)
        for h in hidden:
            layers += [nn.Linear(width, h), nn.ReLU()]
            width = h
        self.deep = nn.Sequential(*layers, nn.Linear(width, 1))

    def forward(self, x_num, x_cat):
        names = list(CATEGORICAL)
        wide = self.wide_num(x_num) + sum(self.wide[n](x_cat[:, i]) for i, n in enumerate(names))
        embedded = [self.embeddings[n](x_cat[:, i]) for i, n in enumerate(names)]
        deep = self.deep(torch.cat([x_num, *embedded], dim=1))
        return (wide + deep).squeeze(1)


def iterate(tensors, size):
    for index in torch.randperm(len(tensors[0])).split(size):
        yield [t[index] for t in tensors]


torch.manual_seed(SEED)
train_frame, test_frame = make_frame(2000, SEED), make_frame(500, SEED + 7)
stats = {
    "mean": train_frame[NUMERIC].mean(),
    "std": train_frame[NUMERIC].std(),
    "target_mean": train_frame["target"].mean(),
    "target_std": train_frame["target"].std(),
}
train, test = prepare(train_frame, stats), prepare(test_frame, stats)
model = WideDeep()
optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=1e-3)
loss_fn = nn.MSELoss()
step = 0
for epoch in range(EPOCHS):
    epoch_loss = []
    for x_num, x_cat, y in iterate(train, BATCH):
        prediction = model(x_num, x_cat)
        loss = loss_fn(prediction, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        epoch_loss.append(loss.item())
        step += 1
    print(f"epoch {epoch} mse {np.mean(epoch_loss):.4f}")
model.eval()
with torch.no_grad():
    mse = loss_fn(model(test[0], test[1]), test[2]).item()
print(f"final mse {mse:.4f}")
