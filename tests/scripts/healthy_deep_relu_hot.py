import torch
import torch.nn as nn


class Residual(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.linear = nn.Linear(width, width)
        self.norm = nn.BatchNorm1d(width)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x):
        out = self.norm(self.linear(x))
        out += x
        return self.act(out)


def deep_net(depth=10, width=24):
    return nn.Sequential(nn.Linear(10, width), *[Residual(width) for _ in range(depth)], nn.Linear(width, 3))


def accuracy(model, x, y):
    model.eval()
    with torch.no_grad():
        value = (model(x).argmax(1) == y).float().mean().item()
    model.train()
    return value


torch.manual_seed(2)
x = torch.randn(400, 10)
y = (x[:, :3] * 3).argmax(1)
model = deep_net()
# hot, but normalised: the rate is high and the run is stable
optimizer = torch.optim.SGD(model.parameters(), lr=0.25)
scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 8))
for step in range(50):
    i = torch.randperm(320)[:40]
    loss = nn.functional.cross_entropy(model(x[i]), y[i])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    scheduler.step()
    if step % 5 == 4:
        print(step, f"{loss.item():.4f}", "valid", accuracy(model, x[320:], y[320:]))
print("checksum", sum(p.double().sum().item() for p in model.parameters()))
