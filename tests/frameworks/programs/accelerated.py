import hashlib

import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

SICK = False
torch.manual_seed(0)
accelerator = Accelerator(gradient_accumulation_steps=2, mixed_precision="bf16", cpu=True)
x = torch.rand(320, 8) + 0.5
y = x.sum(1, keepdim=True)
if SICK:
    y[13 * 16 + 3] = float("nan")


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(8, 16)
        self.head = nn.Linear(16, 1)

    def forward(self, x):
        return self.head(torch.tanh(self.first(x)))


net = Net()
optimizer = torch.optim.AdamW(net.parameters(), lr=0.003)
scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, 20)
net, optimizer, loader, scheduler = accelerator.prepare(
    net, optimizer, DataLoader(TensorDataset(x, y), 16), scheduler
)
for epoch in range(2):
    for inputs, wanted in loader:
        with accelerator.accumulate(net):
            loss = nn.functional.mse_loss(net(inputs), wanted)
            accelerator.backward(loss)
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
    accelerator.print(epoch, loss.item())
weights = b"".join(bytes(p.detach().reshape(-1).view(torch.uint8).tolist()) for p in net.parameters())
print(hashlib.sha256(weights).hexdigest(), torch.get_rng_state().sum().item())
