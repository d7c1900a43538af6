# MLP with a cyclic learning rate: the loss jumps at each restart and comes down again.
import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(256, 6)
y = torch.sin(x.sum(1, keepdim=True)) + x[:, :1] ** 2
model = nn.Sequential(nn.Linear(6, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
scheduler = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=20)
for step in range(80):
    index = torch.randint(0, 256, (32,))
    target = y[index]
    if step in (30, 31):
        target = target * 5  # somebody changed the units for two batches
    loss = nn.functional.mse_loss(model(x[index]), target)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    scheduler.step()
    print(f"{step} lr {scheduler.get_last_lr()[0]:.4f} loss {loss.item():.4f}")
print("checksum", sum(p.sum().item() for p in model.parameters()))
