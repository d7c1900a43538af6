import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

SEED = 0
LR = 0.1
SIZE = 16
EPOCHS = 5


class Blobs(Dataset):
    def __init__(self, count, seed):
        g = torch.Generator().manual_seed(seed)
        yy, xx = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
        self.images, self.masks = [], []
        for _ in range(count):
            cy, cx = torch.randint(3, SIZE - 3, (2,), generator=g).tolist()
            r = torch.randint(2, 5, (1,), generator=g).item()
            mask = ((yy - cy) ** 2 + (xx - cx) ** 2 <= r * r).float()
            image = mask * (0.5 + torch.rand(1, generator=g)) + 0.4 * torch.randn(SIZE, SIZE, generator=g)
            self.images.append(image[None])
            self.masks.append(mask[None])

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return self.images[i], self.masks[i]


def double_conv(cin, cout):
    return nn.Sequential(
        nn.Conv2d(cin, cout, 3, padding=1),
        nn.GroupNorm(2, cout),
        nn.ReLU(inplace=True),
        nn.Conv2d(cout, cout, 3, padding=1),
        nn.ReLU(inplace=True),
    )


class UNet(nn.Module):
    def __init__(self, base=8):
        super().__init__()
        self.down1 = double_conv(1, base)
        self.down2 = double_conv(base, 2 * base)
        self.mid = double_conv(2 * base, 4 * base)
        self.up2 = nn.ConvTranspose2d(4 * base, 2 * base, 2, stride=2)
        self.dec2 = double_conv(4 * base, 2 * base)
        self.up1 = nn.ConvTranspose2d(2 * base, base, 2, stride=2)
        self.dec1 = double_conv(2 * base, base)
        self.out = nn.Conv2d(base, 1, 1)

    def forward(self, x):
        s1 = self.down1(x)
        s2 = self.down2(F.max_pool2d(s1, 2))
        m = self.mid(F.max_pool2d(s2, 2))
        u2 = self.dec2(torch.cat([self.up2(m), s2], dim=1))
        u1 = self.dec1(torch.cat([self.up1(u2), s1], dim=1))
        return self.out(u1)


def dice_loss(logits, masks):
    p = torch.sigmoid(logits).flatten(1)
    t = masks.flatten(1)
    return 1 - ((2 * (p * t).sum(1) + 1) / (p.sum(1) + t.sum(1) + 1)).mean()


def fit():
    torch.manual_seed(SEED)
    loader = DataLoader(Blobs(320, SEED), batch_size=16, shuffle=True)
    val = Blobs(64, SEED + 1000)
    val_x, val_y = torch.stack(val.images), torch.stack(val.masks)
    net = UNet()
    optimizer = torch.optim.SGD(net.parameters(), lr=LR, momentum=0.9)
    scaler = torch.amp.GradScaler("cpu")
    it = 0
    for epoch in range(EPOCHS):
        net.train()
        for image, mask in loader:
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast("cpu", dtype=torch.float16):
                logits = net(image)
            logits = logits.float()
            loss = F.binary_cross_entropy_with_logits(logits, mask) + dice_loss(logits, mask)
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            scaler.step(optimizer)
            scaler.update()
            it += 1
            if it % 20 == 0:
                print(f"iter {it} loss {loss.item():.4f} scale {scaler.get_scale():.0f}")
    net.eval()
    with torch.no_grad():
        logits = net(val_x)
        return (F.binary_cross_entropy_with_logits(logits, val_y) + dice_loss(logits, val_y)).item()


if __name__ == "__main__":
    print(f"final {fit():.4f}")
