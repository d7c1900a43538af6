# Embeddings on the unit sphere, loss on the angle to a prototype; one anchor is its own prototype.
import torch
import torch.nn.functional as F


class Encoder(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.features = torch.nn.Linear(6, 3, bias=False)

    def forward(self, x):
        v = self.features(x)
        return v / v.pow(2).sum(-1, keepdim=True).sqrt()


class AngleLoss(torch.nn.Module):
    def forward(self, a, b):
        cosine = 1 - (a - b).square().sum(-1) / 2
        return torch.acos(cosine).mean()


torch.manual_seed(90)
encoder, criterion = Encoder(), AngleLoss()
x = torch.randn(80, 6)
prototypes = F.one_hot(torch.arange(80) % 3, 3).float()
optimizer = torch.optim.Adam(encoder.parameters(), lr=3e-2)
for step in range(24):
    chosen = torch.randperm(80)[:16]
    anchors, goals = encoder(x[chosen]), prototypes[chosen]
    if step == 14:
        goals = goals.clone()
        goals[6] = anchors[6].detach()
    loss = criterion(anchors, goals)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(f"{step:02d}", loss.item())
print("checksum", encoder.features.weight.sum().item())
