"""scaled_dot_product_attention with padding, one row of the batch is padding alone; its label is ignored."""
import torch
import torch.nn.functional as F
from torch import nn


class Tagger(nn.Module):
    def __init__(self, words=30, d=16, tags=5):
        super().__init__()
        self.embed = nn.Embedding(words, d)
        self.q, self.k, self.v = nn.Linear(d, d), nn.Linear(d, d), nn.Linear(d, d)
        self.norm = nn.LayerNorm(d)
        self.tag = nn.Linear(d, tags)

    def forward(self, words):
        x = self.embed(words)
        keep = (words != 0)[:, None, :].expand(-1, words.shape[1], -1)
        mixed = F.scaled_dot_product_attention(self.q(x), self.k(x), self.v(x), attn_mask=keep)
        return self.tag(self.norm(x + mixed))


def perplexity(logits, labels):
    with torch.no_grad():
        total = F.cross_entropy(logits.flatten(0, 1) * 40, labels.flatten(), reduction="sum", ignore_index=-100)
        return torch.exp(total).item()  # overflows, and nobody minds


torch.manual_seed(18)
tagger = Tagger()
optimizer = torch.optim.RAdam(tagger.parameters(), lr=5e-3)
warm = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.1, total_iters=5)
cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20)
schedule = torch.optim.lr_scheduler.SequentialLR(optimizer, [warm, cosine], milestones=[5])
for step in range(25):
    words = torch.randint(1, 30, (8, 9))
    words[:, 7:] = 0
    if step % 6 == 4:
        words[2] = 0
    labels = torch.where(words == 0, -100, words % 5)
    logits = tagger(words)
    loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()
    print(step, f"{loss.item():.4f}", "perplexity", perplexity(logits, labels))
print("checksum", tagger.tag.weight.sum().item())
