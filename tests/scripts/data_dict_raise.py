"""Two-tower model over a dict batch (numbers and text); raises when the loss is not finite."""
import torch
from torch import nn
from torch.utils.data import DataLoader


class Towers(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.EmbeddingBag(50, 12)
        self.numbers = nn.Sequential(nn.Linear(5, 12), nn.LeakyReLU(0.1, inplace=True))
        self.score = nn.Linear(24, 1)

    def forward(self, batch):
        text = self.words(batch["tokens"])
        table = self.numbers(batch["meta"]["numbers"])
        return {"score": self.score(torch.cat([text, table], dim=1)).squeeze(1)}


def records(n):
    torch.manual_seed(9)
    for i in range(n):
        numbers = torch.randn(5)
        if i == 61:
            numbers[2] = float("inf")
        tokens = torch.randint(0, 50, (7,))
        yield {"tokens": tokens, "meta": {"numbers": numbers}, "click": (numbers[:2].sum() > 0).float()}


class Trainer:
    def __init__(self):
        torch.manual_seed(1)
        self.model = Towers()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.01)
        self.schedule = torch.optim.lr_scheduler.StepLR(self.optimizer, 5, 0.5)

    def train_one(self, batch):
        output = self.model(batch)
        loss = nn.functional.binary_cross_entropy_with_logits(output["score"], batch["click"])
        if not torch.isfinite(loss):
            raise FloatingPointError(f"loss is {loss.item()}")
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.schedule.step()
        return loss.item()


trainer = Trainer()
loader = DataLoader(list(records(96)), batch_size=8)
for number, batch in enumerate(loader):
    print(number, round(trainer.train_one(batch), 5))
print("never printed", trainer.model.score.weight.sum().item())
