"""A progress bar of tqdm whose postfix is the loss: a recurrent net whose gradient explodes, or is clipped."""

import sys

import torch
from torch import nn
from tqdm import tqdm

SICK = sys.argv[1] == "sick"
torch.manual_seed(0)
cell = nn.RNN(4, 32, batch_first=True, nonlinearity="relu")
head = nn.Linear(32, 1)
parameters = [*cell.parameters(), *head.parameters()]
if SICK:
    with torch.no_grad():
        cell.weight_hh_l0.copy_(torch.eye(32) * 1.06)
optimizer = torch.optim.Adam(parameters, lr=1e-3)
for epoch in range(4):
    bar = tqdm(range(25), desc=f"Epoch {epoch + 1}/4", ncols=100, mininterval=0, ascii=False)
    for step in bar:
        length = 20 + 5 * step if SICK and epoch == 2 else 20
        x = torch.randn(16, length, 4)
        if SICK and epoch == 2 and step >= 20:
            x = x.repeat(1, 12, 1)
        y = x[:, :, 0].mean(1, keepdim=True)
        loss = (head(cell(x)[0][:, -1]) - y).square().mean()
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, 1.0 if not SICK else 1e30)
        optimizer.step()
        bar.set_postfix(loss=f"{loss.item():.4g}", grad_norm=f"{norm:.3g}", lr=1e-3)
