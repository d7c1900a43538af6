import torch
from torch import nn

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
x = torch.randn(8, 4)
net(x).pow(2).mean().backward()
optimizer.step()
traced = torch.jit.trace(net, x)
print(traced(x).sum().item())
scripted = torch.jit.script(nn.Sequential(nn.Linear(4, 4), nn.ReLU()))
again = torch.optim.SGD(scripted.parameters(), lr=0.01)
for _ in range(3):
    again.zero_grad()
    scripted(x).pow(2).mean().backward()
    again.step()
weights = dict(net.named_parameters())


def loss(w, row):
    return torch.func.functional_call(net, w, (row,)).pow(2).sum()


each = torch.func.vmap(torch.func.grad(loss), (None, 0))(weights, x)
print({name: tuple(value.shape) for name, value in each.items()})
graph = torch.fx.symbolic_trace(net)
print(graph(x).sum().item())
