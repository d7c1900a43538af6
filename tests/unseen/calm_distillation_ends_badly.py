"""Distillation with kl_div in bfloat16 autocast, OneCycleLR; the script dies of a typo after the training."""
import torch
from torch import nn
from torch.nn.functional import kl_div, log_softmax


def student():
    return nn.Sequential(nn.Linear(8, 12), nn.Tanhshrink(), nn.Linear(12, 6))


torch.manual_seed(51)
teacher = nn.Sequential(nn.Linear(8, 40), nn.ReLU(), nn.Linear(40, 6)).eval().requires_grad_(False)
pupil = student()
optimizer = torch.optim.AdamW(pupil.parameters(), lr=1e-3)
schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.02, total_steps=30)
results = {"loss": []}
for _ in range(30):
    x = torch.randn(32, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with torch.no_grad():
            soft = log_softmax(teacher(x) * 3, dim=-1)
        answer = log_softmax(pupil(x), dim=-1)
    loss = kl_div(answer.float(), soft.float(), reduction="batchmean", log_target=True)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()
    results["loss"].append(loss.item())
print([f"{value:.4f}" for value in results["loss"]])
print("accuracy", results["acuracy"])
