import torch
from torch import nn


def make_model():
    return nn.Sequential(
        nn.Linear(16, 64), nn.LayerNorm(64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1)
    )


def main():
    torch.manual_seed(1)
    x = torch.randn(320, 16)
    y = x[:, :1] - 0.5 * x[:, 1:2]
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**20)
    for epoch in range(3):
        for i in range(0, 320, 32):
            optimizer.zero_grad()
            with torch.autocast("cpu", dtype=torch.float16):
                out = model(x[i : i + 32])
            loss = nn.functional.mse_loss(out.float(), y[i : i + 32])
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            print(epoch, i, f"{loss.item():.4f}", scaler.get_scale())
    print("checksum", sum(p.sum().item() for p in model.parameters()))


if __name__ == "__main__":
    main()
