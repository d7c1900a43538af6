"""Time until a pump fails: a Cox model whose risk is a small network, fitted on censored records."""

import numpy as np
import torch
from torch import nn

SEED = 9


def make_records(rng, count=1200):
    load = rng.normal(60, 15, count)
    speed = rng.normal(1500, 300, count)
    heat = rng.normal(45, 8, count)
    vibration = rng.exponential(2.0, count)
    covariates = np.stack([load, speed, heat, vibration], axis=1)
    z = (covariates - [60, 1500, 45, 2]) / [15, 300, 8, 2]
    risk = 2.0 * z[:, 0] + 1.5 * z[:, 1] * z[:, 2] - 0.8 * z[:, 2] ** 2 + 1.5 * np.sqrt(vibration)
    life = rng.exponential(np.exp(-risk))
    censored_at = rng.exponential(6.0, count)
    time = np.minimum(life, censored_at)
    event = life <= censored_at
    return covariates, time, event


def standardise(covariates):
    mean, std = covariates.mean(axis=0), covariates.std(axis=0)
    return (covariates - mean) / std


def to_tensors(*arrays):
    return [torch.as_tensor(np.asarray(a, dtype=np.float32)) for a in arrays]


class RiskNet(nn.Module):
    def __init__(self, inputs=4, width=48):
        super().__init__()
        self.first = nn.Linear(inputs, width)
        self.second = nn.Linear(width, width)
        self.third = nn.Linear(width, width)
        self.score = nn.Linear(width, 1, bias=False)

    def forward(self, x):
        x = torch.relu(self.first(x))
        x = torch.relu(self.second(x))
        x = torch.relu(self.third(x))
        return self.score(x).squeeze(1)


def partial_likelihood(score, time, event):
    """Negative log partial likelihood: who failed, against all who were still running."""
    order = torch.argsort(time, descending=True)
    score, event = score[order], event[order]
    at_risk = torch.logcumsumexp(score, dim=0)
    return ((at_risk - score) * event).sum() / event.sum()


def train(x, time, event, steps=300, batch=150, lr=2e-3):
    model = RiskNet()
    optimizer = torch.optim.Adam(model.parameters(), lr=lr, weight_decay=1e-4)
    history = []
    for step in range(steps):
        rows = torch.randint(0, len(x), (batch,))
        score = model(x[rows])
        loss = partial_likelihood(score, time[rows], event[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
        if step % 60 == 59:
            print(f"step {step + 1}: {np.mean(history[-60:]):.4f}")
    return model, history


def concordance(score, time, event):
    sooner = (time[:, None] < time[None, :]) & event[:, None].bool()
    agree = (score[:, None] > score[None, :]) & sooner
    return (agree.sum() / sooner.sum()).item()


if __name__ == "__main__":
    torch.manual_seed(SEED)
    covariates, time, event = make_records(np.random.default_rng(SEED))
    x, time, event = to_tensors(standardise(covariates), time, event)
    model, history = train(x[:900], time[:900], event[:900])
    with torch.no_grad():
        held_out = model(x[900:])
    print(f"concordance {concordance(held_out, time[900:], event[900:]):.3f}")
    print(f"final loss {np.mean(history[-30:]):.4f}")
