"""The trainings whose cost is measured: python train.py WORKLOAD STEPS [WATCHER]. An ordinary script.

Its last line is JSON: CPU seconds of the first step, of the steps before 100, of all after; peak memory in KiB; pages
fetched after step 100.
WATCHER puts a rival in: anomaly, prints, underflow (transformers' DebugUnderflowOverflow), sherlorch.
"""

import json
import resource
import sys
import time
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FIRST = 100


class Block(nn.Module):
    """Basic block of a ResNet-18."""

    def __init__(self, inside: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inside, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out)
        self.conv2, self.bn2 = nn.Conv2d(out, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out)
        self.short: nn.Module = nn.Identity()
        if stride != 1 or inside != out:
            self.short = nn.Sequential(nn.Conv2d(inside, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.short(x))


class ResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        widths = [64, 64, 128, 128, 256, 256, 512, 512]
        self.stem = nn.Sequential(nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU())
        self.blocks = nn.Sequential(
            *[Block(a, b, 1 if a == b else 2) for a, b in zip([64, *widths], widths)]  # noqa: B905
        )
        self.head = nn.Linear(512, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.qkv, self.out = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        q, k, v = self.qkv(x).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(mixed.transpose(1, 2).reshape(batch, length, width))


class Layer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.ln1, self.ln2, self.attention = nn.LayerNorm(width), nn.LayerNorm(width), Attention(width, 4)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.ln1(x))
        return x + self.mlp(self.ln2(x))


class Decoder(nn.Module):
    def __init__(self, words: int = 512, width: int = 256, layers: int = 6, length: int = 128) -> None:
        super().__init__()
        self.embed, self.place = nn.Embedding(words, width), nn.Parameter(torch.zeros(length, width))
        self.layers = nn.Sequential(*[Layer(width) for _ in range(layers)])
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, words)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.norm(self.layers(self.embed(tokens) + self.place)))


class Encoder(nn.Module):
    """Dictionaries in and out, as in the Hugging Face libraries."""

    def __init__(self) -> None:
        super().__init__()
        self.body = Decoder(words=512, width=128, layers=4, length=64)
        self.classifier = nn.Linear(512, 2)

    def forward(self, input_ids: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logits = self.classifier(self.body(input_ids).mean(1))
        return {"loss": F.cross_entropy(logits, labels), "logits": logits}


class Cells(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.LSTMCell(32, 128), nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        h = c = torch.zeros(x.shape[0], 128)
        for t in range(x.shape[1]):
            h, c = self.cell(x[:, t], (h, c))
        return self.head(h)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(32, 128, batch_first=True), nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x)[0][:, -1])


def mlp(width: int) -> nn.Module:
    inner = [part for _ in range(3) for part in (nn.Linear(width, width), nn.ReLU())]
    return nn.Sequential(*inner, nn.Linear(width, 10))


def workload(name: str):  # type: ignore[no-untyped-def]
    """(model, a function from step to loss)."""
    classes = torch.randint(0, 10, (64,))
    if name == "resnet":
        model, x = ResNet(), torch.randn(32, 3, 32, 32)
        return model, lambda: F.cross_entropy(model(x), classes[:32])
    if name == "decoder":
        model, tokens = Decoder(), torch.randint(0, 512, (8, 129))
        return model, lambda: F.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
    if name == "encoder":
        model, tokens, labels = Encoder(), torch.randint(0, 512, (16, 64)), torch.randint(0, 2, (16,))
        return model, lambda: model(input_ids=tokens, labels=labels)["loss"]
    if name in ("lstm", "cells"):
        model, x = Recurrent() if name == "lstm" else Cells(), torch.randn(32, 64, 32)
        return model, lambda: F.cross_entropy(model(x), classes[:32])
    width, batch = {"mlp": (256, 64), "midsize": (512, 256)}[name]
    model, x, y = mlp(width), torch.randn(batch, width), torch.randint(0, 10, (batch,))
    return model, lambda: F.cross_entropy(model(x), y)


def watched(model: nn.Module, watcher: str) -> None:
    if watcher == "anomaly":
        torch.autograd.set_detect_anomaly(True)
    elif watcher == "underflow":
        from transformers.debug_utils import DebugUnderflowOverflow

        DebugUnderflowOverflow(model)
    elif watcher == "prints":
        def look(module: nn.Module, _: object, output: object) -> None:
            for tensor in output.values() if isinstance(output, dict) else [output]:
                if isinstance(tensor, Tensor):
                    module.seen = (bool(torch.isnan(tensor).any()), tensor.abs().max().item())  # type: ignore[assignment]

        for module in model.modules():
            module.register_forward_hook(look)


def around(watcher: str) -> AbstractContextManager[object]:
    """What a rival wants around each forward and backward pass."""
    if watcher != "sherlorch":
        return nullcontext()
    import sherlorch  # type: ignore[import-not-found]

    return sherlorch.trace()  # type: ignore[no-any-return]


def main(name: str, steps: int, watcher: str = "") -> None:
    torch.manual_seed(0)
    model, loss_of = workload(name)
    watched(model, watcher)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    marks, faults = [time.process_time()], []
    for step in range(steps):
        optimizer.zero_grad()
        with around(watcher):
            loss = loss_of()
            loss.backward()
        optimizer.step()
        if step + 1 in (1, FIRST, steps):
            marks.append(time.process_time())
            faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
    total = sum(float(p.detach().double().sum()) for p in model.parameters())
    report = {
        "first": marks[1] - marks[0], "early": marks[2] - marks[1], "late": marks[-1] - marks[2],
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, "weights": total.hex(),
        "faults": faults[-1] - faults[1],
    }  # fmt: skip
    print(json.dumps(report))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
