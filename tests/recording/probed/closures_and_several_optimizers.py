"""LBFGS and its closure, Adam with one, and a GAN whose generator's graph begins before the discriminator is called."""

import torch
from torch import nn

torch.manual_seed(0)
G, D = nn.Linear(3, 4), nn.Sequential(nn.Linear(4, 8), nn.LeakyReLU(0.2), nn.Linear(8, 1))
of_g, of_d = torch.optim.Adam(G.parameters(), lr=1e-3), torch.optim.Adam(D.parameters(), lr=1e-3)
bce = nn.functional.binary_cross_entropy_with_logits
for _ in range(8):
    real, noise = torch.randn(16, 4) + 1, torch.randn(16, 3)
    fake = G(noise)
    of_d.zero_grad()
    (bce(D(real), torch.ones(16, 1)) + bce(D(fake.detach()), torch.zeros(16, 1))).backward()
    of_d.step()
    of_g.zero_grad()
    bce(D(fake), torch.ones(16, 1)).backward()
    of_g.step()

net = nn.Linear(3, 1)
x = torch.randn(20, 3)
for optimizer in (torch.optim.Adam(net.parameters(), lr=0.01), torch.optim.LBFGS(net.parameters(), max_iter=5)):
    for _ in range(25):

        def closure(optimizer=optimizer):
            optimizer.zero_grad()
            loss = (net(x) - x.sum(1, keepdim=True)).pow(2).mean()
            loss.backward()
            return loss

        optimizer.step(closure)
print([p.double().sum().item() for model in (G, D, net) for p in model.parameters()], torch.rand(1).item())
