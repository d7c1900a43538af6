"""A training of fifty leaf modules and forty steps, recorded by benchmarks/diagnose_large.py."""

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

PAIRS, WIDTH, STEPS, BATCH = 25, 16, 40, 8  # a pair is a Linear and a ReLU


class Deep(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(PAIRS - 1))
        self.active = nn.ModuleList(nn.ReLU() for _ in range(PAIRS - 1))
        self.head = nn.Linear(WIDTH, 2)

    def forward(self, x: Tensor) -> Tensor:
        for linear, active in zip(self.linear, self.active, strict=True):
            x = x + 0.2 * active(linear(x))
        out: Tensor = self.head(x)
        return out


torch.manual_seed(0)
x = torch.randn(STEPS * BATCH, WIDTH)
loader = DataLoader(TensorDataset(x, (x.sum(1) > 0).long()), batch_size=BATCH)
model = Deep()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
for inputs, labels in loader:
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(inputs), labels)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
