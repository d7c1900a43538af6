import math

import torch
from torch import autograd, nn, optim

SEED = 0
LR = 2e-3
NOISE = 8
HIDDEN = 48
BATCH = 64
ROUNDS = 170
CRITIC_STEPS = 3
PENALTY = 2.5


def sample_real(n, generator):
    angle = torch.randint(0, 8, (n,), generator=generator) * (2 * math.pi / 8)
    centres = torch.stack([angle.cos(), angle.sin()], dim=1) * 2.0 + torch.tensor([3.0, -1.0])
    return centres + 0.1 * torch.randn(n, 2, generator=generator)


def mlp(sizes, activation):
    layers = []
    for a, b in zip(sizes[:-1], sizes[1:]):
        layers += [nn.Linear(a, b), activation()]
    return nn.Sequential(*layers[:-1])


class Generator(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = mlp([NOISE, HIDDEN, HIDDEN, 2], nn.ReLU)

    def forward(self, z):
        return self.net(z)


class Critic(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = mlp([2, HIDDEN, HIDDEN, 1], lambda: nn.LeakyReLU(0.2))

    def forward(self, x):
        return self.net(x).squeeze(1)


def gradient_penalty(critic, real, fake):
    mix = torch.rand(len(real), 1)
    between = (mix * real + (1 - mix) * fake).requires_grad_(True)
    score = critic(between)
    (slope,) = autograd.grad(score.sum(), between, create_graph=True)
    norm = slope.norm(dim=1)
    return ((norm - 1) ** 2).mean()


def sliced_distance(a, b, directions=32):
    angle = torch.arange(directions) * (math.pi / directions)
    axes = torch.stack([angle.cos(), angle.sin()])
    return ((a @ axes).sort(0).values - (b @ axes).sort(0).values).abs().mean().item()


def critic_step(critic, generator, opt, real):
    z = torch.randn(len(real), NOISE)
    fake = generator(z).detach()
    opt.zero_grad()
    gap = critic(fake).mean() - critic(real).mean()
    loss = gap + PENALTY * gradient_penalty(critic, real, fake)
    loss.backward()
    opt.step()
    return loss.item()


def generator_step(critic, generator, opt, real):
    z = torch.randn(BATCH, NOISE)
    opt.zero_grad()
    loss = critic(real).mean() - critic(generator(z)).mean()
    loss.backward()
    opt.step()
    return loss.item()


def main():
    torch.manual_seed(SEED)
    source = torch.Generator().manual_seed(SEED + 1)
    generator, critic = Generator(), Critic()
    opt_g = optim.Adam(generator.parameters(), lr=LR, betas=(0.5, 0.9))
    opt_c = optim.Adam(critic.parameters(), lr=LR, betas=(0.5, 0.9))
    for it in range(ROUNDS):
        for _ in range(CRITIC_STEPS):
            real = sample_real(BATCH, source)
            loss_c = critic_step(critic, generator, opt_c, real)
        loss_g = generator_step(critic, generator, opt_g, real)
        if it % 30 == 0:
            print(f"[{it}/{ROUNDS}] critic {loss_c:.4f} generator {loss_g:.4f}")
    generator.eval()
    with torch.no_grad():
        fake = generator(torch.randn(1000, NOISE))
    print(f"final distance {sliced_distance(fake, sample_real(1000, source)):.4f}")


if __name__ == "__main__":
    main()
