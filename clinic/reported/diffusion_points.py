import math

import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

SEED = 0
LR = 2e-3

cfg = dict(timesteps=100, hidden=64, depth=3, batch=128, epochs=32, points=1024, ema=0.99)


def load_points():
    g = torch.Generator().manual_seed(SEED)
    angle = math.pi * torch.rand(cfg["points"], generator=g)
    side = torch.arange(cfg["points"]) % 2
    points = torch.stack([angle.cos(), angle.sin()], dim=1) * (1 - 2 * side[:, None])
    points = points + torch.stack([side, 0.5 * side], dim=1)
    points = points + 0.05 * torch.randn(points.shape, generator=g)
    return (points - points.mean(0)) / points.std(0)


class Schedule:
    def __init__(self, timesteps):
        self.betas = torch.linspace(1e-4, 0.08, timesteps)
        self.alpha_bar = torch.cumprod(1.0 - self.betas, dim=0)

    def add_noise(self, x, t, noise):
        a = self.alpha_bar[t][:, None]
        return a.sqrt() * x + (1 - a).sqrt() * noise


def time_features(t, dim=32):
    freqs = torch.exp(-math.log(1000.0) * torch.arange(dim // 2) / (dim // 2))
    angles = t[:, None].float() * freqs
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


class Layer(nn.Module):
    def __init__(self, dim, act):
        super().__init__()
        self.fc = nn.Linear(dim, dim)
        self.emb = nn.Linear(32, dim)
        self.act = act

    def forward(self, h, emb):
        return h + self.act(self.fc(h) + self.emb(emb))


class Denoiser(nn.Module):
    def __init__(self, hidden, depth, act=nn.SiLU()):
        super().__init__()
        self.inp = nn.Linear(2, hidden)
        self.layers = nn.ModuleList([Layer(hidden, act) for _ in range(depth)])
        self.out = nn.Linear(hidden, 2)

    def forward(self, x, t):
        emb = time_features(t)
        h = self.inp(x)
        for layer in self.layers:
            h = layer(h, emb)
        return self.out(h)


class EMA:
    def __init__(self, model, decay):
        self.decay = decay
        self.shadow = {k: v.detach().clone() for k, v in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model):
        for k, v in model.state_dict().items():
            self.shadow[k].lerp_(v, 1 - self.decay)


def diffusion_loss(model, schedule, x):
    t = torch.randint(0, cfg["timesteps"], (len(x),))
    noise = torch.randn_like(x)
    noisy = schedule.add_noise(x, t, noise)
    pred = model(noisy, t)
    return ((pred - noise) ** 2).mean()


@torch.no_grad()
def validate(model, schedule, x):
    torch.manual_seed(SEED + 1)
    return sum(diffusion_loss(model, schedule, x).item() for _ in range(4)) / 4


def main():
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    points = load_points()
    loader = DataLoader(TensorDataset(points), batch_size=cfg["batch"], shuffle=True)
    schedule = Schedule(cfg["timesteps"])
    model = Denoiser(cfg["hidden"], cfg["depth"])
    ema = EMA(model, cfg["ema"])
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR)
    step = 0
    for epoch in range(cfg["epochs"]):
        for (x,) in loader:
            loss = diffusion_loss(model, schedule, x)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            ema.update(model)
            step += 1
        if epoch % 6 == 0:
            print(f"[{epoch:02d}] step {step} mse {loss.item():.4f}")
    model.load_state_dict(ema.shadow)
    print(f"final val mse {validate(model, schedule, points):.4f}")


if __name__ == "__main__":
    main()
