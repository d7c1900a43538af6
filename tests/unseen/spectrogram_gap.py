"""Audio tagging on fixed tensors: mean pooling over a stack of dilated convolutions, skipping bad gradients."""
import torch
from torch import nn


def tone(pitch, length=64):
    return torch.sin(torch.arange(length) * pitch)


def corpus(n=72):
    pitches = torch.linspace(0.1, 1.2, n)
    waves = torch.stack([tone(p) for p in pitches]) + 0.05 * torch.randn(n, 64)
    waves[40, 17:20] = torch.nan  # drop-out of the microphone
    return waves[:, None], (pitches > 0.6).long()


class Dilated(nn.Module):
    def __init__(self):
        super().__init__()
        for i, dilation in enumerate((1, 2, 4)):
            setattr(self, f"conv{i}", nn.Conv1d(1 if i == 0 else 8, 8, 3, dilation=dilation, padding=dilation))
        self.classify = nn.Linear(8, 2)

    def forward(self, wave):
        for i in range(3):
            wave = nn.functional.silu(getattr(self, f"conv{i}")(wave))
        return self.classify(wave.mean(-1))


def usable(parameters):
    return all(p.grad is not None and bool(p.grad.isfinite().all()) for p in parameters)


def train():
    torch.manual_seed(6)
    waves, tags = corpus()
    net = Dilated()
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    for epoch in range(2):
        for first in range(0, 72, 8):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(net(waves[first : first + 8]), tags[first : first + 8])
            loss.backward()
            if not usable(net.parameters()):
                print("  bad gradients, update skipped")
                continue
            optimizer.step()
            print(f"  {loss.item():.4f}")
        print("epoch", epoch)
    return net


print("checksum", train().classify.weight.sum().item())
