import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

torch.manual_seed(0)


class Dispatch(TorchDispatchMode):
    seen = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        Dispatch.seen += 1
        return func(*args, **(kwargs or {}))


class Function(TorchFunctionMode):
    seen = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        Function.seen += 1
        return func(*args, **(kwargs or {}))


net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(inplace=True), nn.Linear(8, 1))
optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
order = []
net[0].register_forward_pre_hook(lambda module, args: order.append("pre"))
net[0].register_forward_hook(lambda module, args, out: order.append("post"))
net[2].register_full_backward_hook(lambda module, given, got: order.append("backward"))
for _ in range(3):
    with Function(), Dispatch():
        optimizer.zero_grad()
        loss = net(torch.randn(8, 4)).pow(2).mean()
        loss.backward()
        optimizer.step()
print(Dispatch.seen, Function.seen, order, loss.item())
with torch.device("meta"):
    print(nn.Linear(3, 3)(torch.ones(2, 3)).sum().backward())
torch.set_default_device("cpu")
print(torch.ones(2).device, len(net.state_dict()))
