import torch
from torch import nn

for fused in (False, True):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01, fused=fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=3)
    for step in range(6):
        optimizer.zero_grad()
        x = torch.randn(8, 4) * (float("inf") if step == 2 else 1.0)
        loss = net(x).pow(2).mean()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        with torch.no_grad():
            print(fused, step, scaler.get_scale(), sum(p.double().sum().item() for p in net.parameters()))
