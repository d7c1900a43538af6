"""Wasserstein critic with a gradient penalty (double backward); losses are negative and wander."""
import torch
from torch import nn


class Duel:
    def __init__(self):
        self.generator = nn.Sequential(nn.Linear(3, 24), nn.ELU(), nn.Linear(24, 2))
        self.critic = nn.Sequential(nn.Linear(2, 24), nn.Softplus(), nn.Linear(24, 1))
        self.opt_g = torch.optim.RMSprop(self.generator.parameters(), lr=1e-3)
        self.opt_c = torch.optim.RMSprop(self.critic.parameters(), lr=1e-3)

    def penalty(self, real, fake):
        mix = torch.rand(len(real), 1)
        point = (mix * real + (1 - mix) * fake).requires_grad_(True)
        (slope,) = torch.autograd.grad(self.critic(point).sum(), point, create_graph=True)
        return ((slope.norm(dim=1) - 1) ** 2).mean()

    def critic_round(self, real):
        fake = self.generator(torch.randn(len(real), 3)).detach()
        loss = self.critic(fake).mean() - self.critic(real).mean() + 10 * self.penalty(real, fake)
        self.opt_c.zero_grad()
        loss.backward()
        self.opt_c.step()
        return loss.item()

    def generator_round(self, size):
        loss = -self.critic(self.generator(torch.randn(size, 3))).mean()
        self.opt_g.zero_grad()
        loss.backward()
        self.opt_g.step()
        return loss.item()


torch.manual_seed(61)
duel = Duel()
for turn in range(12):
    scores = [duel.critic_round(torch.randn(20, 2) @ torch.tensor([[2.0, 0.3], [0.0, 0.5]]) + 1) for _ in range(3)]
    print(turn, [round(s, 3) for s in scores], round(duel.generator_round(20), 3))
print("checksum", sum(p.sum().item() for p in duel.generator.parameters()))
