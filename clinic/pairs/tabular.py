import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from upset import before_forward, before_update, seeded

x = torch.randn(512, 10, generator=torch.Generator().manual_seed(1))
y = (x[:, 0] * x[:, 1] + x[:, 2]).unsqueeze(1)
torch.manual_seed(seeded("weights"))
model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.03, momentum=0.9)
order = torch.Generator()
order.manual_seed(seeded("order"))
step = 0
for _ in range(5):
    for inputs, targets in DataLoader(TensorDataset(x, y), 32, shuffle=True, generator=order):
        before_forward(model, step)
        loss = nn.functional.mse_loss(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        before_update(model, optimizer, step)
        optimizer.step()
        step += 1
print(loss.item())
