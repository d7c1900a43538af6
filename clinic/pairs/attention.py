import torch
from torch import nn
from upset import before_forward, before_update, seeded


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm, self.qkv, self.proj = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.drop = nn.Dropout(0.05)

    def forward(self, x):
        q, k, v = self.qkv(self.norm(x)).chunk(3, -1)
        return x + self.drop(self.proj(torch.softmax(q @ k.transpose(1, 2) / q.shape[-1] ** 0.5, -1) @ v))


class Sorter(nn.Module):
    def __init__(self, width=32):
        super().__init__()
        self.embed = nn.Embedding(20, width)
        self.blocks = nn.Sequential(Block(width), Block(width))
        self.head = nn.Linear(width, 20)

    def forward(self, tokens):
        return self.head(self.blocks(self.embed(tokens)))


torch.manual_seed(seeded("weights"))
model = Sorter()
torch.manual_seed(seeded("dropout"))
stream = torch.Generator()
stream.manual_seed(seeded("order"))
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
for step in range(90):
    tokens = torch.randint(0, 20, (16, 10), generator=stream)
    before_forward(model, step)
    logits = model(tokens)
    loss = nn.functional.cross_entropy(logits.flatten(0, 1), (19 - tokens).flatten())
    optimizer.zero_grad()
    loss.backward()
    before_update(model, optimizer, step)
    optimizer.step()
    if step % 30 == 0:
        print(step, loss.item())
