"""One shape in a noisy picture: which one it is, and the box around it."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

SEED = 3
SIDE = 24
KINDS = 3  # rectangle, ellipse, cross


@dataclass
class Settings:
    batch: int = 32
    steps: int = 220
    lr: float = 0.01
    momentum: float = 0.9
    box_weight: float = 4.0
    log_every: int = 40


class ShapeStream:
    """An endless supply of pictures."""

    def __init__(self, seed):
        self.rng = torch.Generator().manual_seed(seed)
        axis = torch.arange(SIDE, dtype=torch.float32)
        self.ys, self.xs = torch.meshgrid(axis, axis, indexing="ij")

    def draw(self, count):
        kind = torch.randint(0, KINDS, (count,), generator=self.rng)
        center = 8 + 8 * torch.rand(count, 2, generator=self.rng)
        half = 3 + 4 * torch.rand(count, 2, generator=self.rng)
        dx = (self.xs - center[:, 0, None, None]).abs() / half[:, 0, None, None]
        dy = (self.ys - center[:, 1, None, None]).abs() / half[:, 1, None, None]
        rectangle = (dx <= 1) & (dy <= 1)
        ellipse = dx**2 + dy**2 <= 1
        cross = rectangle & ((dx <= 0.3) | (dy <= 0.3))
        shape = torch.stack([rectangle, ellipse, cross])[kind, torch.arange(count)].float()
        image = shape + 0.35 * torch.randn(count, SIDE, SIDE, generator=self.rng)
        box = torch.cat([center, 2 * half], dim=1) / SIDE
        return image[:, None], kind, box


class Detector(nn.Module):
    def __init__(self, width=12):
        super().__init__()
        self.conv1 = nn.Conv2d(1, width, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, 2 * width, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(2 * width)
        self.conv3 = nn.Conv2d(2 * width, 2 * width, 3, padding=1)
        self.bn3 = nn.BatchNorm2d(2 * width)
        self.trunk = nn.Linear(2 * width * 36, 64)
        self.classify = nn.Linear(64, KINDS)
        self.locate = nn.Linear(64, 4)

    def forward(self, image):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(image))), 2)
        x = F.max_pool2d(F.relu(self.bn2(self.conv2(x))), 2)
        x = F.relu(self.bn3(self.conv3(x)))
        x = F.relu(self.trunk(x.flatten(1)))
        return self.classify(x), self.locate(x)


class Trainer:
    def __init__(self, settings):
        self.settings = settings
        self.stream = ShapeStream(SEED + 1)
        self.held_out = ShapeStream(SEED + 2).draw(256)
        self.model = Detector()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=settings.lr, momentum=settings.momentum)
        self.step = 0
        self.recent = []

    def losses(self, logits, found, kind, box):
        class_loss = F.cross_entropy(logits, kind)
        box_loss = F.smooth_l1_loss(found, box, beta=0.1)
        return class_loss + self.settings.box_weight * box_loss

    def train_step(self, image, kind, box):
        self.optimizer.zero_grad()
        logits, found = self.model(image)
        loss = self.losses(logits, found, kind, box)
        loss.backward()
        self.optimizer.step()
        return loss.item()

    @torch.no_grad()
    def evaluate(self):
        self.model.eval()
        image, kind, box = self.held_out
        logits, found = self.model(image)
        loss = self.losses(logits, found, kind, box)
        right = (logits.argmax(1) == kind).float().mean()
        self.model.train()
        return loss.item(), right.item()

    def fit(self):
        while self.step < self.settings.steps:
            image, kind, box = self.stream.draw(self.settings.batch)
            loss = self.train_step(image, kind, box)
            self.recent = [*self.recent[-19:], loss]
            if self.step % self.settings.log_every == 0:
                print(f"[{self.step:4d}] loss {loss:.4f}")
            self.step += 1
        held_out, right = self.evaluate()
        print(f"held-out loss {held_out:.4f} accuracy {right:.3f}")
        print(f"final loss {sum(self.recent) / len(self.recent):.4f}")


if __name__ == "__main__":
    torch.manual_seed(SEED)
    Trainer(Settings()).fit()
