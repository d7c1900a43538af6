# Two views of a sample, embeddings standardised over the batch by hand (Barlow twins), ragged last batch.
import torch


class Standardise(torch.nn.Module):
    def forward(self, z):
        centred = z - z.mean(dim=0, keepdim=True)
        variance = centred.pow(2).sum(0) / (z.shape[0] - 1)
        return centred / variance**0.5


class Twin(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.body = torch.nn.Sequential(torch.nn.Linear(9, 20), torch.nn.Mish(), torch.nn.Linear(20, 6))
        self.standardise = Standardise()

    def forward(self, one, two):
        return self.standardise(self.body(one)), self.standardise(self.body(two))


def redundancy(a, b):
    c = torch.einsum("ni,nj->ij", a, b) / a.shape[0]
    on = (c.diagonal() - 1).square().sum()
    off = c.square().sum() - c.diagonal().square().sum()
    return on + 0.02 * off


def batches(data, size):
    for first in range(0, len(data), size):
        yield data[first : first + size]


def main():
    torch.manual_seed(66)
    data = torch.randn(241, 9)
    twin = Twin()
    optimizer = torch.optim.Adamax(twin.parameters(), lr=2e-3)
    for number, batch in enumerate(batches(data, 24)):
        one = batch + 0.1 * torch.randn_like(batch)
        two = batch + 0.1 * torch.randn_like(batch)
        loss = redundancy(*twin(one, two))
        assert not torch.isnan(loss), f"nan in batch {number}"
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(number, round(loss.item(), 4))


main()
