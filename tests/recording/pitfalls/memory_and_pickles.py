import copy
import gc
import hashlib
import io
import pickle
import resource
import weakref

import torch
from torch import nn

gc.disable()  # what is freed must be freed by its last reference
torch.manual_seed(0)
net = nn.Sequential(*[layer for _ in range(12) for layer in (nn.Linear(256, 256), nn.Tanh())])
optimizer = torch.optim.Adam(net.parameters(), lr=1e-4)


def step(sick=False):
    middle = net[:5](torch.randn(4, 256))
    inner = weakref.ref(middle)  # lives as long as the graph that saved it
    out = net[5:](middle)
    del middle
    loss = (out / 0 if sick else out).pow(2).mean()
    kept = [weakref.ref(thing) for thing in (out, loss)]
    optimizer.zero_grad()
    loss.backward()
    del loss, out
    freed = [reference() is None for reference in (*kept, inner)]
    if not sick:
        optimizer.step()
    return freed


for _ in range(4):
    print(step())
grads = [weakref.ref(parameter.grad) for parameter in net.parameters()]
optimizer.zero_grad(set_to_none=True)
print(all(reference() is None for reference in grads))


def digest(thing):
    """Of what a pickle brings back: its tensors bit by bit, and what else is in it."""
    if isinstance(thing, torch.Tensor):
        return hashlib.sha256(thing.detach().numpy().tobytes()).hexdigest()[:8]
    if isinstance(thing, dict):
        return {str(key): digest(value) for key, value in thing.items()}
    return [digest(value) for value in thing] if isinstance(thing, (list, tuple)) else repr(thing)


states = pickle.loads(pickle.dumps((net, optimizer.state_dict())))
print(digest(states[0].state_dict()), digest(states[1]))
copied_net, copied = copy.deepcopy((net, optimizer))
print(digest(copied_net.state_dict()) == digest(net.state_dict()), sorted(vars(copied)) == sorted(vars(optimizer)))
buffer = io.BytesIO()
torch.save({"net": net, "optimizer": optimizer}, buffer)
print(len(buffer.getvalue()), sorted(vars(net[0])), net[0]._forward_hooks, len(optimizer._optimizer_step_pre_hooks))
with torch.no_grad():  # 24 results of 8 MB, of which two live at a time
    wide = torch.zeros(1 << 13, 256)
    net(wide)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(2):
        net(wide)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(before < 2_000_000, grown < 60_000)
losses = (net(torch.randn(4, 256)).sum() * weight for weight in (1.0, 2.0))  # given once only
torch.autograd.backward(losses)
print(sum(parameter.grad.sum().item() for parameter in net.parameters()))
print(step(sick=True), step(sick=True))
