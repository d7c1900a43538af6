import torch
from torch import nn

torch.manual_seed(1)
NODES, DIM = 60, 16


class Hop(nn.Module):
    """One round of message passing: sum over the neighbours."""

    def __init__(self):
        super().__init__()
        self.message = nn.Linear(DIM, DIM, bias=False)
        self.update = nn.Linear(DIM, DIM)

    def forward(self, h, source, target):
        received = torch.zeros_like(h).index_add(0, target, self.message(h)[source])
        return h + torch.relu(self.update(received))


class GraphNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(4, DIM)
        self.hop = Hop()  # shared by every round
        self.readout = nn.Linear(DIM, 1)

    def forward(self, x, source, target, rounds):
        h = self.embed(x)
        for _ in range(rounds):
            h = self.hop(h, source, target)
        return self.readout(h).squeeze(-1)


source = torch.arange(NODES).repeat_interleave(4)
target = (source + torch.tensor([1, 2, 3, 7]).repeat(NODES)) % NODES
x = torch.randn(NODES, 4)
y = x[:, 0].roll(2) + 0.1 * torch.randn(NODES)

model = GraphNet()
optimizer = torch.optim.SGD(
    [
        {"params": model.hop.parameters(), "lr": 0.0005},
        {"params": list(model.embed.parameters()) + list(model.readout.parameters())},
    ],
    lr=0.002,
    momentum=0.9,
)

# curriculum: two rounds first, then the receptive field is widened
for epoch in range(24):
    rounds = 2 if epoch < 16 else 14
    loss = torch.nn.functional.smooth_l1_loss(model(x, source, target, rounds), y)
    if torch.isnan(loss):
        print("loss is NaN, stopping at epoch", epoch)
        break
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if epoch % 2 == 0 or epoch > 14:
        print(f"epoch {epoch:2d} rounds {rounds} loss {loss.item():.5f}")

print("sum of weights", sum(float(p.sum()) for p in model.parameters()))
