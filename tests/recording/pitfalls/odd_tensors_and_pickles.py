import copy
import io
import pickle
import warnings

import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
warnings.simplefilter("default")


class Quantise(nn.Module):
    def forward(self, x):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.quantize_per_tensor(x.detach(), 0.1, 0, torch.qint8)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.EmbeddingBag(10, 4, sparse=True, mode="sum")
        self.linear = nn.Linear(4, 4, dtype=torch.complex64)
        self.quantise = Quantise()

    def forward(self, ids):
        x = self.embed(ids)
        self.quantise(x)
        return self.linear(x.to(torch.complex64)).abs()


net = Net()
sparse = torch.optim.SparseAdam(net.embed.parameters(), lr=0.01)
dense = torch.optim.SGD(net.linear.parameters(), lr=0.01)
for _ in range(3):
    sparse.zero_grad()
    dense.zero_grad()
    out = net(torch.randint(0, 10, (5, 3)))
    F.mse_loss(out, torch.zeros(4)).backward()  # warns of broadcasting, once
    sparse.step()
    dense.step()
buffer = io.BytesIO()
torch.save({"net": net, "optimizer": dense, "out": out}, buffer)
copied = copy.deepcopy((net, dense))
functions = [torch.Tensor.backward, torch.isnan, torch.autograd.backward, torch.nn.utils.clip_grad_norm_, torch.save, F.softmax]
print(pickle.loads(pickle.dumps(functions)) == functions, len(pickle.dumps(copied)) > 0)
print(net.linear.weight.detach().abs().sum().item())
