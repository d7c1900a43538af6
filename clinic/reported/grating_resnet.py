"""Oriented gratings in noise, a small pre-activation ResNet with GroupNorm, one-cycle SGD in float16."""
import argparse
import math

import torch
from torch import nn
from torch.nn import functional as F

SEED = 0


def get_args():
    ap = argparse.ArgumentParser()
    ap.add_argument("--steps", type=int, default=160)
    ap.add_argument("--batch", type=int, default=24)
    ap.add_argument("--max-lr", type=float, default=0.1)
    ap.add_argument("--wd", type=float, default=5e-4)
    ap.add_argument("--smoothing", type=float, default=0.05)
    ap.add_argument("--clip", type=float, default=2.0)
    return ap.parse_args()


class Gratings:
    """Patches of 12x12, six classes: three orientations at two spatial frequencies."""

    def __init__(self, seed, side=12, noise=0.7):
        self.gen = torch.Generator().manual_seed(seed)
        self.side, self.noise = side, noise
        ax = torch.arange(side).float() - side / 2
        self.yy, self.xx = torch.meshgrid(ax, ax, indexing="ij")

    def draw(self, n):
        y = torch.randint(0, 6, (n,), generator=self.gen)
        angle = (y % 3) * math.pi / 3 + 0.12 * torch.randn(n, generator=self.gen)
        freq = torch.where(y < 3, 0.7, 1.4)
        shift = 2 * math.pi * torch.rand(n, generator=self.gen)
        ramp = torch.cos(angle)[:, None, None] * self.xx + torch.sin(angle)[:, None, None] * self.yy
        img = torch.sin(freq[:, None, None] * ramp + shift[:, None, None])
        img = img + self.noise * torch.randn(img.shape, generator=self.gen)
        img = img[:, None]
        img = (img - img.mean((2, 3), keepdim=True)) / (img.std((2, 3), keepdim=True) + 1e-5)
        return img, y


class ResBlock(nn.Module):
    def __init__(self, cin, cout, stride=1):
        super().__init__()
        self.norm1 = nn.GroupNorm(4, cin)
        self.conv1 = nn.Conv2d(cin, cout, 3, stride=stride, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(4, cout)
        self.conv2 = nn.Conv2d(cout, cout, 3, padding=1, bias=False)
        self.proj = nn.Conv2d(cin, cout, 1, stride=stride, bias=False) if stride != 1 or cin != cout else nn.Identity()

    def forward(self, x):
        out = F.relu(self.norm1(x))
        out = self.conv1(out)
        out = F.relu(self.norm2(out))
        out = self.conv2(out)
        return self.proj(x) + out


class GratingNet(nn.Module):
    def __init__(self, widths=(8, 16), classes=6):
        super().__init__()
        self.stem = nn.Conv2d(1, widths[0], 4, stride=2, padding=1)
        blocks, cin = [], widths[0]
        for i, w in enumerate(widths):
            blocks += [ResBlock(cin, w, stride=2 if i else 1), ResBlock(w, w)]
            cin = w
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.GroupNorm(4, cin)
        self.head = nn.Linear(cin, classes)
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, nonlinearity="relu")

    def forward(self, x):
        h = self.blocks(self.stem(x))
        h = F.relu(self.norm(h))
        h = h.mean((2, 3))
        return self.head(h)


@torch.no_grad()
def evaluate(net, data):
    net.eval()
    x, y = data.draw(256)
    logits = net(x).float()
    return F.cross_entropy(logits, y).item(), (logits.argmax(1) == y).float().mean().item()


def main(args):
    torch.manual_seed(SEED)
    data = Gratings(SEED + 1)
    net = GratingNet()
    opt = torch.optim.SGD(net.parameters(), lr=args.max_lr / 10, momentum=0.9, weight_decay=args.wd, nesterov=True)
    sched = torch.optim.lr_scheduler.OneCycleLR(opt, args.max_lr, total_steps=args.steps, pct_start=0.25)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12)
    running = None
    for step in range(args.steps):
        x, y = data.draw(args.batch)
        opt.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype=torch.float16):
            logits = net(x)
        loss = F.cross_entropy(logits.float(), y, label_smoothing=args.smoothing)
        scaler.scale(loss).backward()
        scaler.unscale_(opt)
        nn.utils.clip_grad_norm_(net.parameters(), args.clip)
        scaler.step(opt)
        scaler.update()
        sched.step()
        running = loss.item() if running is None else 0.95 * running + 0.05 * loss.item()
        if (step + 1) % 25 == 0:
            print(f"[{step + 1:4d}/{args.steps}] loss {running:.4f} lr {sched.get_last_lr()[0]:.4f}")
    ce, acc = evaluate(net, Gratings(SEED + 999))
    print(f"accuracy {acc:.3f}")
    return ce


if __name__ == "__main__":
    print(f"final {main(get_args()):.4f}")
