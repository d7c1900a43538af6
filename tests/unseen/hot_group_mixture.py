# Mixture density network; the layers of the head sit in a parameter group of their own.
import torch
from torch import nn
from torch.nn.functional import log_softmax


class MDN(nn.Module):
    def __init__(self, k=4):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh())
        self.pi, self.mu, self.scale = nn.Linear(32, k), nn.Linear(32, k), nn.Linear(32, k)

    def forward(self, x):
        h = self.trunk(x)
        return log_softmax(self.pi(h), -1), self.mu(h), self.scale(h).exp()


def negative_log_likelihood(output, y):
    log_pi, mu, scale = output
    z = (y - mu) / scale
    log_density = log_pi - 0.5 * z * z - scale.log()
    return -torch.logsumexp(log_density, dim=-1).mean()


torch.manual_seed(7)
y = torch.rand(512, 1) * 4 - 2
x = y + 0.6 * torch.sin(3 * y) + 0.05 * torch.randn(512, 1)
mdn = MDN()
heads = [*mdn.pi.parameters(), *mdn.mu.parameters(), *mdn.scale.parameters()]
optimizer = torch.optim.SGD([{"params": mdn.trunk.parameters()}, {"params": heads, "lr": 3.0}], lr=1e-2)
for t in range(60):
    pick = torch.randperm(512)[:64]
    loss = negative_log_likelihood(mdn(x[pick]), y[pick])
    if not loss.isfinite():
        print("stopped at", t)
        break
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if t % 6 == 0:
        print(t, f"{loss:.4f}")
print("checksum", float(sum(p.sum() for p in mdn.parameters())))
