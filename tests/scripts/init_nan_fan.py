"""Deep sets with a home-made initialisation: std = sqrt(2 / (fan_out - fan_in))."""
import torch
from torch import nn


def init(module):
    if isinstance(module, nn.Linear):
        fan_out, fan_in = module.weight.shape
        std = torch.sqrt(torch.tensor(2.0 / (fan_out - fan_in + 0.5)))
        with torch.no_grad():
            module.weight.copy_(torch.randn(fan_out, fan_in) * std)
            module.bias.zero_()


class DeepSets(nn.Module):
    def __init__(self):
        super().__init__()
        self.phi = nn.Sequential(nn.Linear(3, 16), nn.ELU(), nn.Linear(16, 24), nn.ELU())
        self.rho = nn.Sequential(nn.Linear(24, 32), nn.ELU(), nn.Linear(32, 1))

    def forward(self, sets):
        return self.rho(self.phi(sets).mean(1)).squeeze(1)


torch.manual_seed(14)
model = DeepSets()
model.apply(init)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
for step in range(10):
    sets = torch.randn(10, 6, 3)
    loss = ((model(sets) - sets.amax(dim=(1, 2))) ** 2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(step, loss.item())
print("checksum", model.phi[0].weight.sum().item())
