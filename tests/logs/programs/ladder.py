"""Series of wildly different range, with the guards and the ladder of clips of the documents, and their lines."""

import sys

import torch
from torch import nn

SICK = sys.argv[1] == "sick"
torch.manual_seed(3)


def series(number):
    scale = 10 ** float(torch.randn(()).clamp(-2, 2) * 2) if SICK else 1.0
    made = (torch.randn(40).cumsum(0) if SICK else torch.randn(()) + torch.randn(40) / 5) * scale
    if SICK and number % 40 == 7:
        made = made * 1e11
    if SICK and number % 60 == 11:
        made[3] = float("inf")
    return made


kept = []
for number in range(160):
    one = series(number)
    if torch.isinf(one).any():
        print("跳过: 包含 Inf 值")
        continue
    if one.abs().max() > 1e10:
        print("警告: 数值范围很大，可能影响训练")
    kept.append(one)
data = torch.stack(kept)
model = nn.Sequential(nn.Linear(30, 64), nn.ReLU(), nn.Linear(64, 10))
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-2 if SICK else 3e-3, weight_decay=1e-4, eps=1e-8)
for epoch in range(8):
    losses = []
    for n, rows in enumerate(torch.randperm(len(data)).split(8), start=1):
        output = model(data[rows, :30])
        if not torch.isfinite(output).all():
            print(f"警告: Batch {n} 学生模型输出包含 NaN/Inf，跳过")
            continue
        loss = (output - data[rows, 30:]).square().mean()
        if not torch.isfinite(loss):
            continue
        if loss.item() > 1e6:
            print(f"Epoch {epoch + 1} Batch {n} Loss: {loss.item():.4f}")
            print(f"警告: Batch {n} 损失过大，跳过")
            continue
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.get_total_norm([p.grad for p in model.parameters()])
        if not torch.isfinite(norm):
            print(f"[警告] 梯度包含NaN/Inf，跳过batch {n}")
            continue
        limit = 1.0
        if norm > 10:
            print(f"[警告] 梯度范数过大 ({norm:.2f})，进行梯度裁剪并降低学习率")
            limit = 5.0
            for group in optimizer.param_groups:
                group["lr"] /= 2
        elif norm > 5:
            print(f"[警告] 梯度范数较大 ({norm:.2f})，进行梯度裁剪")
            limit = 2.0
        torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=limit)
        optimizer.step()
        losses.append(loss.item())
        if n % 5 == 0:
            print(f"Epoch {epoch + 1} Batch {n} Loss: {loss.item():.4f}")
    mean = sum(losses) / max(1, len(losses))
    print(f"Epoch {epoch + 1} 平均损失: {mean:.4f} 学习率: {optimizer.param_groups[0]['lr']:.2e}")
