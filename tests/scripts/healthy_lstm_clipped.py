"""LSTMCell loop over noisy walks; gradients are large and clipped at every step, and it learns."""
import torch
from torch import nn

CLIP = 0.5


class Walker(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = nn.LSTMCell(1, 20)
        self.out = nn.Linear(20, 1)

    def forward(self, walk):
        h = walk.new_zeros(walk.shape[0], 20)
        c = torch.zeros_like(h)
        predictions = []
        for t in range(walk.shape[1]):
            h, c = self.cell(walk[:, t : t + 1], (h, c))
            predictions.append(self.out(h))
        return torch.cat(predictions, dim=1)


def closure_factory(model, walks):
    def evaluate():
        return ((model(walks[:, :-1]) - walks[:, 1:]) ** 2).sum(1).mean()

    return evaluate


torch.manual_seed(7)
model = Walker()
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for step in range(25):
    walks = torch.randn(16, 13).cumsum(1) * 3
    loss = closure_factory(model, walks)()
    optimizer.zero_grad()
    loss.backward()
    total = torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
    optimizer.step()
    print(f"{step:2d} loss {loss.item():9.3f} norm {float(total):9.3f}")
print("checksum", model.out.weight.sum().item())
