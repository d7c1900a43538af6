import os
import sys
import tempfile

import torch
import torch.distributed as dist
from torch import nn

WORLD = 2


def main(rank, place):
    dist.init_process_group("gloo", init_method=f"file://{place}", rank=rank, world_size=WORLD)
    torch.manual_seed(0)
    net = nn.parallel.DistributedDataParallel(nn.Sequential(nn.Linear(4, 8), nn.ReLU(inplace=True), nn.Linear(8, 1)))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    garbage = torch.full((3,), float("nan"))  # a receiving buffer that nobody has filled yet
    for step in range(4):
        optimizer.zero_grad()
        loss = net(torch.randn(4, 4) + rank).pow(2).mean()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(net.parameters(), 1e9)
        optimizer.step()
        dist.broadcast(garbage if rank else torch.ones(3), 0)
        if rank == 0:
            print(step, loss.item(), norm.item(), flush=True)
    try:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard
    except ImportError:  # an older torch
        fully_shard = None
    if fully_shard is not None:
        torch.manual_seed(0)
        sharded = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
        fully_shard(sharded, mesh=init_device_mesh("cpu", (WORLD,)))
        optimizer = torch.optim.SGD(sharded.parameters(), lr=0.01)
        for step in range(3):
            optimizer.zero_grad()
            loss = sharded(torch.randn(4, 4)).pow(2).mean()
            loss.backward()
            optimizer.step()
            if rank == 0:
                print("sharded", step, loss.item(), flush=True)
    replica = nn.DataParallel(nn.Linear(4, 1))
    replica(torch.randn(2, 4)).sum().backward()
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    place = os.path.join(tempfile.mkdtemp(), "meeting")
    pid = os.fork()  # before any thread of torch's
    main(1 if pid == 0 else 0, place)
    if pid == 0:
        os._exit(0)
    print(os.waitpid(pid, 0)[1])
    sys.stdout.flush()
