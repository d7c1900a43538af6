"""GAN on a ring of Gaussians, two optimizers; the losses swing and nothing is wrong."""
import math

import torch
from torch import nn

torch.manual_seed(13)
netG = nn.Sequential(nn.Linear(4, 32), nn.BatchNorm1d(32), nn.ReLU(True), nn.Linear(32, 2))
netD = nn.Sequential(nn.Linear(2, 32), nn.LeakyReLU(0.2, inplace=True), nn.Dropout(0.1), nn.Linear(32, 1))
optG = torch.optim.Adam(netG.parameters(), lr=2e-3, betas=(0.5, 0.999))
optD = torch.optim.Adam(netD.parameters(), lr=2e-3, betas=(0.5, 0.999))
criterion = nn.BCEWithLogitsLoss()
ones, zeros = torch.ones(24, 1), torch.zeros(24, 1)

for iteration in range(30):
    angle = torch.randint(0, 8, (24,)) * (math.pi / 4)
    real = torch.stack([angle.cos(), angle.sin()], 1) * 2 + 0.05 * torch.randn(24, 2)

    # discriminator
    netD.zero_grad()
    fake = netG(torch.randn(24, 4))
    lossD = criterion(netD(real), ones) + criterion(netD(fake.detach()), zeros)
    lossD.backward()
    optD.step()

    # generator
    netG.zero_grad()
    lossG = criterion(netD(fake), ones)
    lossG.backward()
    optG.step()
    if iteration % 3 == 0:
        print(f"{iteration} D {lossD.item():.4f} G {lossG.item():.4f}")
print("checksum", sum(p.sum().item() for p in list(netG.parameters()) + list(netD.parameters())))
