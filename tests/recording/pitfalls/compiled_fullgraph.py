import torch
from torch import nn
from torch._dynamo.utils import counters

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
for _ in range(4):
    optimizer.zero_grad()
    loss = compiled(torch.randn(8, 4)).pow(2).mean()
    loss.backward()
    optimizer.step()
    print(loss.item())
print(counters["stats"]["unique_graphs"], dict(counters["graph_break"]))
