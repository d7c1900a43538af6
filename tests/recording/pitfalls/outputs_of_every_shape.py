from collections import OrderedDict
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)


@dataclass
class Output:
    hidden: torch.Tensor
    pair: tuple
    nothing: None = None


class Part(nn.Module):
    def __init__(self, form):
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.form = form

    def forward(self, *, x, scale=1.0):
        y = self.linear(x) * scale
        if self.form == "dataclass":
            return Output(y, (y + 1, [y * 2]))
        if self.form == "dict":
            return OrderedDict(a=y, b={"c": [y + 1]}, unused=y * 3)
        return [y, (y, None, "text", 3)]


class Rare(nn.Module):
    def forward(self, x):
        empty = x[:0]
        nested = torch.nested.nested_tensor([x[0].detach(), x[1, :2].detach()], layout=torch.jagged)
        small = x.detach().to(torch.float8_e4m3fn)
        return empty, nested, small, x > 0, x.detach().to_sparse(), torch.empty(3, device="meta"), x.to(torch.int8)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.inplace = nn.ReLU(inplace=True)
        self.parts = nn.ModuleList(Part(form) for form in ("dataclass", "dict", "list"))
        self.shared = nn.Linear(4, 4)
        self.tied = nn.Linear(4, 4)
        self.tied.weight = self.shared.weight
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.lstm = nn.LSTM(4, 4, batch_first=True)
        self.rare = Rare()

    def forward(self, x, mask=None):
        identity = x
        x = self.first(x)
        x += identity
        x = self.inplace(x)
        a = self.parts[0](x=x, scale=0.5)
        b = self.parts[1](x=a.hidden + a.pair[0])
        c = self.parts[2](x=b["a"] + b["b"]["c"][0])
        y = self.tied(self.shared(self.shared(c[0])))
        self.rare(y)
        y, _ = self.attention(y[None], y[None], y[None], need_weights=False)
        y, _ = self.lstm(y)
        return {"out": F.softmax(y[0], -1), "kinds": [type(v).__name__ for v in (a, b, c)], "name": x.grad_fn.name()}


net = Net()
optimizer = torch.optim.AdamW(net.parameters(), lr=0.01)
encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 8, batch_first=True), 1).eval()
seen = []
net.first.register_forward_hook(lambda module, args, out: seen.append(out.min().item() < 0))
for step in range(4):
    optimizer.zero_grad()
    out = net(torch.randn(6, 4), mask=None)
    loss = torch.log(out["out"] + 1).sum()
    loss.backward()
    optimizer.step()
    with torch.no_grad():
        side = encoder(torch.randn(2, 3, 4))
    print(step, loss.item(), out["kinds"], out["name"], side.sum().item(), seen[-1], net.lstm.weight_ih_l0.grad.norm().item())
