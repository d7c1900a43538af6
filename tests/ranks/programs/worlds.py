"""Several small distributed trainings after one another, each of two forked processes over gloo.

One import of torch serves them all. `python worlds.py calm drift ...` runs these, each with a port of its own.
"""

import copy
import io
import multiprocessing
import os
import signal
import socket
import sys
import time

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.utils._python_dispatch import TorchDispatchMode


def batches(rank, steps, size=8):
    drawn = torch.Generator().manual_seed(rank)
    for _ in range(steps):
        yield torch.randn(size, 4, generator=drawn)


def net(*inner):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), *inner, nn.Linear(8, 1))


def loss_of(model, x):
    return (model(x) - x.sum(1, keepdim=True)).pow(2).mean()


def train(model, optimizer, rank, data, after=lambda step: None):
    for step, x in enumerate(data):
        optimizer.zero_grad()
        loss = loss_of(model, x)
        loss.backward()
        optimizer.step()
        after(step)


def calm(rank):
    model = nn.parallel.DistributedDataParallel(net(nn.Tanh()))
    train(model, torch.optim.SGD(model.parameters(), lr=0.05), rank, batches(rank, 24))
    torch.save(copy.deepcopy(model.module), io.BytesIO())  # hooks of ours on parameters are not in the way


def too_fast(rank):
    """A learning rate that no data excuses: both ranks leave together."""
    model = nn.parallel.DistributedDataParallel(net(nn.ReLU()))
    train(model, torch.optim.SGD(model.parameters(), lr=3.0), rank, batches(rank, 16))


def drift(rank):
    """After step 9 one weight of rank 1 is not what the optimizer left there."""
    inner = net(nn.Tanh())
    model = nn.parallel.DistributedDataParallel(inner)

    def flipped(step):
        if rank == 1 and step == 9:
            inner[0].weight.data.view(-1)[3] *= 2.0**8

    train(model, torch.optim.SGD(model.parameters(), lr=0.01), rank, batches(rank, 16), flipped)


def late(rank):
    """The same after step 70, where most steps are thin."""
    inner = net(nn.Tanh())
    model = nn.parallel.DistributedDataParallel(inner)

    def changed(step):
        if rank == 0 and step == 70:
            inner[2].weight.data[0, 0] += 1.0

    train(model, torch.optim.SGD(model.parameters(), lr=0.01), rank, batches(rank, 132), changed)


def uneven(rank):
    """The last batch of rank 1 is a single row, and BatchNorm refuses it."""
    model = nn.parallel.DistributedDataParallel(net(nn.BatchNorm1d(8)))
    data = list(batches(rank, 12))
    if rank == 1:
        data[-1] = data[-1][:1]
    train(model, torch.optim.SGD(model.parameters(), lr=0.01), rank, data)


def killed(rank):
    model = nn.parallel.DistributedDataParallel(net(nn.Tanh()))

    def die(step):
        if rank == 1 and step == 6:
            os.kill(os.getpid(), signal.SIGKILL)

    train(model, torch.optim.SGD(model.parameters(), lr=0.05), rank, batches(rank, 12), die)


def hangs(rank):
    """Rank 1 stops without a word after step 4; rank 0 waits for it in the next reduction, until both are killed."""
    model = nn.parallel.DistributedDataParallel(net(nn.Tanh()))

    def stop(step):
        if rank == 1 and step == 4:
            time.sleep(600)

    train(model, torch.optim.SGD(model.parameters(), lr=0.05), rank, batches(rank, 12), stop)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.norm = nn.LayerNorm(4)

    def forward(self, x):
        return x + self.norm(torch.tanh(self.fc(x)))


class Collectives(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.seen = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.seen += "c10d" in str(function)
        return function(*args, **(kwargs or {}))


def sharded(rank):
    """fully_shard, clipped; rank 1 draws a NaN at step 4. Says how many collectives there were."""
    torch.manual_seed(0)
    model = nn.Sequential(Block(), Block(), nn.Linear(4, 1))
    for block in model[:2]:
        fully_shard(block)
    fully_shard(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    with Collectives() as counted:
        for step, x in enumerate(batches(rank, 8)):
            if rank == 1 and step == 4:
                x[3, 2] = float("nan")
            optimizer.zero_grad()
            loss_of(model, x).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
    with open(f"{os.environ['SAID']}.{rank}", "w") as said:
        said.write(str(counted.seen))


def entered(name, rank, port):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=2)
    globals()[name](rank)
    dist.barrier()  # a rank that is gone too early makes gloo abort the other
    dist.destroy_process_group()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    for name in sys.argv[1:]:
        port = free_port()
        ranks = [context.Process(target=entered, args=(name, rank, port)) for rank in range(2)]
        for process in ranks:
            process.start()
        if name == "hangs":
            ranks[1].join(15)
            for process in ranks:
                process.kill()
        for process in ranks:
            process.join()
        print(name, [process.exitcode for process in ranks], flush=True)
