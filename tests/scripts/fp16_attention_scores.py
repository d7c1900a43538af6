import torch
from torch import nn


class SelfAttention(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.qkv = nn.Linear(dim, 3 * dim)
        self.sharpness = 1.0
        self.out = nn.Linear(dim, dim)

    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        q = q * self.sharpness
        scores = q @ k.transpose(1, 2)
        return self.out(torch.softmax(scores, dim=-1) @ v)


class Encoder(nn.Module):
    def __init__(self, vocab=30, dim=64):
        super().__init__()
        self.embed = nn.Embedding(vocab, dim)
        self.attn = SelfAttention(dim)
        self.ff = nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, dim))
        self.head = nn.Linear(dim, vocab)

    def forward(self, tokens):
        x = self.embed(tokens)
        x = x + self.attn(x)
        return self.head(x + self.ff(x))


def main():
    torch.manual_seed(8)
    model = Encoder()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-4)
    scaler = torch.amp.GradScaler("cpu", init_scale=256.0, growth_interval=1000)
    for step in range(30):
        tokens = torch.randint(0, 29, (8, 12))
        model.attn.sharpness = 1.0 * 1.5**step  # anneal towards hard attention
        with torch.autocast("cpu", dtype=torch.float16):
            logits = model(tokens)
            loss = nn.functional.cross_entropy(logits.flatten(0, 1), tokens.flip(1).flatten())
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        print(f"{step} loss={loss.item():.4f} scale={scaler.get_scale()}")
    print("checksum", model.head.weight.abs().sum().item())


if __name__ == "__main__":
    main()
