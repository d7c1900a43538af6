"""Cross attention with einsum in autocast float16; keys pick up an offset that is squared in the logits."""
import torch
import torch.nn as nn


class CrossAttention(nn.Module):
    def __init__(self, d=48, h=3):
        super().__init__()
        self.h = h
        self.to_q, self.to_k, self.to_v = nn.Linear(d, d), nn.Linear(d, d), nn.Linear(d, d)
        self.merge = nn.Linear(d, d)

    def forward(self, x, memory):
        n, t, d = x.shape
        q = self.to_q(x).reshape(n, t, self.h, -1)
        k = self.to_k(memory).reshape(n, memory.shape[1], self.h, -1)
        v = self.to_v(memory).reshape(n, memory.shape[1], self.h, -1)
        logits = torch.einsum("nqhd,nkhd->nhqk", q, k)
        attention = logits.float().softmax(-1).to(v.dtype)
        mixed = torch.einsum("nhqk,nkhd->nqhd", attention, v)
        return self.merge(mixed.reshape(n, t, d))


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.lift = nn.Linear(6, 48)
        self.cross = CrossAttention()
        self.norm = nn.LayerNorm(48)
        self.out = nn.Linear(48, 2)

    def forward(self, x, memory):
        x, memory = self.lift(x), self.lift(memory)
        return self.out(self.norm(x + self.cross(x, memory)).mean(1))


def stream(count):
    generator = torch.Generator().manual_seed(5)
    for i in range(count):
        gain = 1.25**i  # the amplifier is turned up while the recording runs
        x = torch.randn(8, 5, 6, generator=generator)
        yield gain * x, gain * torch.randn(8, 9, 6, generator=generator), (x.sum((1, 2)) > 0).long()


if __name__ == "__main__":
    torch.manual_seed(5)
    model = Model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-4)
    for i, (x, memory, label) in enumerate(stream(26)):
        with torch.autocast(device_type="cpu", dtype=torch.half):
            logits = model(x * 4, memory * 4)
        loss = nn.functional.cross_entropy(logits.float(), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if i % 3 == 0:
            print(i, loss.item())
    print("checksum", model.out.weight.sum().item())
