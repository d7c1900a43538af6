"""Two phases: AdamW under bfloat16 autocast, then LBFGS with a closure on the whole set; a checkpoint in between."""
import argparse

import torch
from torch import nn


def parse():
    parser = argparse.ArgumentParser()
    parser.add_argument("--warm", type=int, default=20)
    parser.add_argument("--polish", type=int, default=4)
    parser.add_argument("--checkpoint", default="warm.pt")
    return parser.parse_args()


def main():
    args = parse()
    torch.manual_seed(4)
    x = torch.linspace(-1, 1, 96)[:, None]
    y = torch.sin(6 * x)
    model = nn.Sequential(nn.Linear(1, 20), nn.Tanh(), nn.Linear(20, 20), nn.Tanh(), nn.Linear(20, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for step in range(args.warm):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = nn.functional.mse_loss(model(x).float(), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print("warm", step, round(loss.item(), 6))
    torch.save(model.state_dict(), args.checkpoint)
    model.load_state_dict(torch.load(args.checkpoint))

    lbfgs = torch.optim.LBFGS(model.parameters(), lr=1.0, max_iter=5, line_search_fn="strong_wolfe")

    def closure():
        lbfgs.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        return loss

    for step in range(args.polish):
        loss = lbfgs.step(closure)
        print("polish", step, round(float(loss), 6))
    print("checksum", sum(p.sum().item() for p in model.parameters()))


if __name__ == "__main__":
    main()
