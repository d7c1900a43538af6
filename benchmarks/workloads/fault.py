"""A workload of train.py that takes the logarithm of zero at one step: python fault.py WORKLOAD STEPS STEP."""

import sys

import torch
from train import workload


def main(name: str, steps: int, fault: int) -> None:
    torch.manual_seed(0)
    model, loss_of = workload(name)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    for step in range(steps):
        optimizer.zero_grad()
        scale = 0.0 if step == fault else 1.0
        loss = torch.log(1e-9 * scale + loss_of() * scale)
        loss.backward()
        optimizer.step()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
