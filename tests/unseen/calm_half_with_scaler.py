"""U-shaped network in float16 with a GradScaler that meets two overflows of its own making and backs off."""
import torch
from torch import nn


class Down(nn.Module):
    def __init__(self, i, o):
        super().__init__()
        self.conv = nn.Conv2d(i, o, 3, padding=1)
        self.norm = nn.GroupNorm(2, o)

    def forward(self, x):
        return nn.functional.relu(self.norm(self.conv(x)), inplace=True)


class U(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = Down(1, 4), Down(4, 8), Down(12, 4)
        self.out = nn.Conv2d(4, 1, 1)

    def forward(self, x):
        top = self.a(x)
        low = self.b(nn.functional.avg_pool2d(top, 2))
        return self.out(self.c(torch.cat([top, nn.functional.interpolate(low, scale_factor=2)], dim=1)))


def main():
    torch.manual_seed(73)
    net = U()
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    scaler = torch.amp.GradScaler("cpu", init_scale=4096.0, growth_factor=32.0, growth_interval=6)
    for step in range(26):
        image = torch.randn(6, 1, 8, 8)
        wanted = nn.functional.avg_pool2d(image, 3, 1, 1)
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype=torch.float16):
            loss = nn.functional.mse_loss(net(image), wanted)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(net.parameters(), 2.0)
        scaler.step(optimizer)
        scaler.update()
        print(step, f"{loss.item():.4f}", scaler.get_scale())
    print("checksum", sum(p.sum().item() for p in net.parameters()))


main()
