import dataclasses
import itertools

import torch
from torch.utils.data import DataLoader, IterableDataset


@dataclasses.dataclass
class Batch:
    categories: torch.Tensor
    amounts: torch.Tensor
    churned: torch.Tensor


class Table(IterableDataset):
    """Reads rows one after the other, as from a file."""

    def __iter__(self):
        generator = torch.Generator().manual_seed(8)
        for line in itertools.count():
            if line == 120:
                return
            amounts = torch.rand(4, generator=generator)
            spent, visits = amounts[0].item(), 0.0 if line == 86 else 1.0 + line % 5
            amounts[3] = spent / visits if visits else float("inf")
            yield torch.randint(0, 9, (2,), generator=generator), amounts, amounts[0] > 0.5


def collate(rows):
    categories, amounts, churned = zip(*rows, strict=True)
    return Batch(torch.stack(categories), torch.stack(amounts), torch.stack(churned).float())


class WideDeep(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.tables = torch.nn.ModuleList([torch.nn.Embedding(9, 4) for _ in range(2)])
        self.deep = torch.nn.Sequential(torch.nn.Linear(12, 16), torch.nn.PReLU(), torch.nn.Linear(16, 1))
        self.wide = torch.nn.Linear(4, 1)

    def forward(self, *, batch):
        looked_up = [table(batch.categories[:, i]) for i, table in enumerate(self.tables)]
        return (self.deep(torch.cat([*looked_up, batch.amounts], dim=1)) + self.wide(batch.amounts)).flatten()


torch.manual_seed(88)
model = WideDeep()
adagrad = torch.optim.Adagrad(model.parameters(), lr=0.05)
for round_number, batch in enumerate(DataLoader(Table(), batch_size=12, collate_fn=collate)):
    logits = model(batch=batch)
    loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, batch.churned)
    adagrad.zero_grad()
    loss.backward()
    adagrad.step()
    print("round", round_number, "loss", float(loss))
print("checksum", model.wide.weight.sum().item())
