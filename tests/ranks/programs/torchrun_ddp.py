"""Two ranks under torchrun; rank 1 draws a NaN at step 5. Accumulates over two batches, the first under no_sync."""

import hashlib
import os

import torch
import torch.distributed as dist
from torch import nn

dist.init_process_group("gloo")
rank = dist.get_rank()
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
ddp = nn.parallel.DistributedDataParallel(net)
optimizer = torch.optim.SGD(ddp.parameters(), lr=0.05)
drawn = torch.Generator().manual_seed(rank)
lines = []
for step in range(8):
    optimizer.zero_grad()
    first, second = torch.randn(8, 4, generator=drawn), torch.randn(8, 4, generator=drawn)
    if rank == 1 and step == 5:
        second[2, 1] = float("nan")
    with ddp.no_sync():
        ((ddp(first) - first.sum(1, keepdim=True)).pow(2).mean() / 2).backward()
    loss = (ddp(second) - second.sum(1, keepdim=True)).pow(2).mean() / 2
    loss.backward()
    optimizer.step()
    lines.append(f"{step} {loss.item()}")
weights = torch.cat([p.detach().reshape(-1) for p in net.parameters()])
lines.append(hashlib.sha256(weights.numpy().tobytes() + torch.get_rng_state().numpy().tobytes()).hexdigest())
with open(f"{os.environ['SAID']}.{rank}", "w") as said:
    said.write("\n".join(lines))
dist.barrier()  # a rank that is gone too early makes gloo abort the other
dist.destroy_process_group()
