"""Unusual ways to use autograd and modules, each a small training in a forked process: `python program.py NAME ...`."""

import copy
import multiprocessing
import sys

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x, low=10.0):
        h = torch.tanh(self.linear(x))
        return x + torch.log(h + low)


class Deep(nn.Module):
    """Checkpointed blocks; at step 6 the log of the second is given negative numbers."""

    def __init__(self, reentrant):
        super().__init__()
        self.blocks = nn.ModuleList([Block(), Block(), Block()])
        self.head = nn.Linear(4, 1)
        self.reentrant = reentrant

    def forward(self, x, step):
        for number, block in enumerate(self.blocks):
            low = 0.1 if number == 1 and step == 6 else 10.0
            x = checkpoint(block, x, low, use_reentrant=self.reentrant)
        return self.head(x)


class OnTwoDevices(nn.Module):
    """nn.DataParallel as it is, with both replicas on the CPU: its own replicate() asks for CUDA devices."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, x):
        return torch.cat([self.copy()(part) for part in x.chunk(2)])

    def copy(self):
        originals = list(self.module.modules())
        copies = [module._replicate_for_data_parallel() for module in originals]
        places = {module: number for number, module in enumerate(originals)}
        for original, replica in zip(originals, copies, strict=True):
            for name, child in original._modules.items():
                setattr(replica, name, copies[places[child]])
            for name, parameter in original._parameters.items():
                setattr(replica, name, parameter * 1)
        return copies[0]


OnTwoDevices.__name__ = "DataParallel"


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(9, 4)
        self.inner = nn.Linear(4, 4)
        self.out = nn.Linear(4, 9, bias=False)
        self.out.weight = self.embed.weight

    def forward(self, x):
        return self.out(torch.tanh(self.inner(self.embed(x))))


def steps(model, count=10, lr=0.001, call=None, after=lambda: None):
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=lr)
    for step in range(count):
        x = torch.randn(8, 4)
        optimizer.zero_grad()
        out = model(x) if call is None else call(x, step)
        loss = (out - 1).pow(2).mean()
        loss.backward()
        optimizer.step()
        after()
        print(step, loss.item())


def reentrant():
    model = Deep(True)
    steps(model, call=lambda x, step: model(x.requires_grad_(), step))


def not_reentrant():
    model = Deep(False)
    steps(model, call=model)


def replicas():
    inner = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    steps(OnTwoDevices(inner))


def fast_path():
    """Evaluation of a TransformerEncoder calls none of its layers' children."""
    layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)
    model = nn.Sequential(nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Linear(4, 1))

    def evaluate():
        model.eval()
        with torch.no_grad():
            print(model(torch.ones(2, 3, 4)).sum().item())
        model.train()

    steps(model, 4, call=lambda x, step: model(x.view(2, 4, 4)), after=evaluate)


def tied():
    model = Tied()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(6):
        x = torch.randint(9, (16,))
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), x)
        loss.backward()
        optimizer.step()
        print(loss.item())


def adapters():
    """As PEFT-like libraries do it: frozen weights, a hook that adds a low-rank product, others that scale."""
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    model.requires_grad_(False)
    down, up = nn.Linear(4, 2, bias=False), nn.Linear(2, 8, bias=False)
    model.add_module("lora_down", down)
    model.add_module("lora_up", up)
    model.forward = lambda x: model[2](model[1](model[0](x)))
    model[0].register_forward_hook(lambda module, given, out: out + up(down(given[0])))
    model[0].register_full_backward_hook(lambda module, given, out: None)
    model[2].register_forward_pre_hook(lambda module, given: (given[0] * 1.5,))
    up.weight.register_hook(lambda gradient: gradient * 0.5)
    steps(model)


def average():
    """An exponential moving average of the weights, evaluated after each step; and torch's own AveragedModel."""
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    shadow, own = copy.deepcopy(model).requires_grad_(False), torch.optim.swa_utils.AveragedModel(model)

    def follow():
        with torch.no_grad():
            for slow, fast in zip(shadow.parameters(), model.parameters(), strict=True):
                slow.lerp_(fast, 0.1)
            own.update_parameters(model)
            print(shadow(torch.ones(1, 4)).item(), own(torch.ones(1, 4)).item())

    steps(model, after=follow)


if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    for name in sys.argv[1:]:
        torch.manual_seed(0)
        process = context.Process(target=globals()[name])
        process.start()
        process.join()
        print(name, process.exitcode, flush=True)
