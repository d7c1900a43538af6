"""Shared trunk, two heads (dict output), gradient accumulation; padding rows give 0/0 in a weight of zero."""
import torch
from torch import nn

ACCUMULATE = 4


class TwoHeads(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk = nn.GRU(5, 12, batch_first=True)
        self.heads = nn.ModuleDict({"tag": nn.Linear(12, 4), "score": nn.Linear(12, 1)})

    def forward(self, left, right):
        a, _ = self.trunk(left)
        b, _ = self.trunk(right)
        return {"tag": self.heads["tag"](a), "score": self.heads["score"](a[:, -1] - b[:, -1])}


class Trainer:
    def __init__(self, seed):
        torch.manual_seed(seed)
        self.model = TwoHeads()
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=0.01, amsgrad=True)
        self.cross_entropy = nn.CrossEntropyLoss(ignore_index=-1)

    def loss(self):
        left, right = torch.randn(6, 7, 5), torch.randn(6, 7, 5)
        tags = left[..., :4].argmax(-1)
        tags[:, 5:] = -1
        out = self.model(left, right)
        score = nn.functional.mse_loss(out["score"].squeeze(1), left[:, -1, 0] - right[:, -1, 0])
        return self.cross_entropy(out["tag"].flatten(0, 1), tags.flatten()) + 0.5 * score

    def run(self, micro_steps):
        total = 0.0
        for micro in range(micro_steps):
            loss = self.loss() / ACCUMULATE
            loss.backward()
            total += loss.item()
            if micro % ACCUMULATE == ACCUMULATE - 1:
                self.optimizer.step()
                self.optimizer.zero_grad(set_to_none=False)
                print(f"update {micro // ACCUMULATE} loss {total:.5f}")
                total = 0.0


trainer = Trainer(31)
trainer.run(60)
print("checksum", sum(float(p.sum()) for p in trainer.model.parameters()))
