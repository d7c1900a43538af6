import torch
from torch import nn


class HandNorm(nn.Module):
    """Normalises every feature over the batch."""

    def __init__(self, features):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(features))
        self.shift = nn.Parameter(torch.zeros(features))

    def forward(self, x):
        mean = x.mean(0)
        spread = x.std(0)
        return (x - mean) / (spread + 1e-5) * self.gain + self.shift


class AutoEncoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.encode = nn.Sequential(nn.Linear(12, 8), HandNorm(8), nn.SiLU(), nn.Linear(8, 3))
        self.decode = nn.Sequential(nn.Linear(3, 8), nn.SiLU(), nn.Linear(8, 12))

    def forward(self, x):
        return self.decode(self.encode(x))


def run(seed=12):
    torch.manual_seed(seed)
    data = torch.randn(141, 3) @ torch.randn(3, 12)
    model = AutoEncoder()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.8, nesterov=True)
    history = []
    for epoch in range(3):
        for chunk in data.split(20):
            loss = (model(chunk) - chunk).abs().mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            history.append(loss.item())
        print("epoch", epoch, "last losses", [round(value, 4) for value in history[-3:]])
    return model


model = run()
print("checksum", sum(p.sum().item() for p in model.parameters()))
