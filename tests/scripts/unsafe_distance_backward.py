# Siamese network, shared encoder, contrastive loss on Euclidean distances.
import torch
from torch import nn


def distance(a, b):
    return torch.sqrt(((a - b) ** 2).sum(dim=1))


def contrastive(d, same):
    return (same * d.pow(2) + (1 - same) * torch.clamp(1.0 - d, min=0).pow(2)).mean()


def pairs(step):
    left = torch.randn(12, 1, 5, 5)
    same = torch.randint(0, 2, (12,)).float()
    right = torch.where(same[:, None, None, None] == 1, left + 0.1 * torch.randn_like(left), torch.randn_like(left))
    if step == 7:
        right[4] = left[4]  # the same picture twice
    return left, right, same


def main():
    torch.manual_seed(30)
    encoder = nn.Sequential(nn.Conv2d(1, 4, 3), nn.GELU(), nn.Flatten(), nn.Linear(36, 8))
    optimizer = torch.optim.Adagrad(encoder.parameters(), lr=0.01)
    for step in range(12):
        left, right, same = pairs(step)
        loss = contrastive(distance(encoder(left), encoder(right)), same)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print("step", step, "loss", loss.item())
    print("checksum", encoder[3].weight.sum().item())


if __name__ == "__main__":
    main()
