import torch
from torch import nn

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
with torch.autograd.set_detect_anomaly(True):
    for step in range(5):
        optimizer.zero_grad()
        y = net(torch.randn(8, 4))
        y = torch.where(y > 99, torch.sqrt(y - y.detach()), y) if step == 3 else y
        try:
            y.pow(2).mean().backward()
        except RuntimeError as error:
            print(step, str(error))
            continue
        optimizer.step()
        print(step, y.sum().item())
print(torch.is_anomaly_enabled())
