"""Image patches down to 1x1; the last chunk holds a single picture and BatchNorm2d refuses it."""
import torch
from torch import nn


class Stage(nn.Sequential):
    def __init__(self, inside, outside):
        super().__init__(
            nn.Conv2d(inside, outside, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(outside), nn.Hardswish()
        )


class Pyramid(nn.Module):
    def __init__(self):
        super().__init__()
        self.stages = nn.ModuleList([Stage(3, 6), Stage(6, 12), Stage(12, 16)])
        self.out = nn.Conv2d(16, 4, 1)

    def forward(self, picture):
        for stage in self.stages:
            picture = stage(picture)
        return {"logits": self.out(picture).flatten(1), "features": picture}


torch.manual_seed(12)
pictures, kinds = torch.randn(65, 3, 8, 8), torch.randint(0, 4, (65,))
pyramid = Pyramid()
optimizer = torch.optim.NAdam(pyramid.parameters(), lr=2e-3)
for turn in range(2):
    for piece, kind in zip(pictures.split(16), kinds.split(16), strict=True):
        result = pyramid(picture=piece)
        loss = nn.functional.multi_margin_loss(result["logits"], kind)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        print(turn, len(piece), loss.item())
print("checksum", pyramid.out.weight.sum().item())
