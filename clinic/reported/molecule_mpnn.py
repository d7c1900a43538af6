"""Message passing on made-up molecules: predict a property of the whole graph from its atoms and bonds."""

import torch
import torch.nn as nn

SEED = 5
ATOMS = 6  # kinds
BONDS = 3
WIDTH = 40


def molecule(rng):
    """A random tree with a few rings closed; its property is a sum over atoms and bonds."""
    count = int(torch.randint(5, 13, (1,), generator=rng))
    kinds = torch.randint(0, ATOMS, (count,), generator=rng)
    parents = [int(torch.randint(0, i, (1,), generator=rng)) for i in range(1, count)]
    pairs = [(i + 1, parent) for i, parent in enumerate(parents)]
    pairs += [(0, count - 1)] if torch.rand(1, generator=rng) < 0.5 else []
    ends = torch.tensor(pairs).T
    order = torch.randint(0, BONDS, (len(pairs),), generator=rng)
    charge = 0.5 * torch.randn(count, generator=rng)
    polar = (kinds[ends[0]] - kinds[ends[1]]).abs() * (1 + order)
    target = 0.25 * polar.float().mean() + 0.4 * (kinds == 2).float().sum() - 0.6 * charge.sum()
    return {
        "kinds": kinds,
        "charge": charge,
        "edges": torch.cat([ends, ends.flip(0)], dim=1),
        "order": torch.cat([order, order]),
        "target": target,
    }


def collate(molecules):
    offset, edges, owner = 0, [], []
    for i, m in enumerate(molecules):
        edges.append(m["edges"] + offset)
        owner.append(torch.full((len(m["kinds"]),), i))
        offset += len(m["kinds"])
    joined = {key: torch.cat([m[key] for m in molecules]) for key in ("kinds", "charge", "order")}
    joined["edges"] = torch.cat(edges, dim=1)
    joined["owner"] = torch.cat(owner)
    joined["target"] = torch.stack([m["target"] for m in molecules])
    return joined


def scatter_sum(values, index, size):
    return values.new_zeros(size, values.shape[1]).index_add(0, index, values)


class Message(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.bond = nn.Embedding(BONDS, width)
        self.net = nn.Sequential(nn.Linear(2 * width, width), nn.ReLU(), nn.Linear(width, width))

    def forward(self, h, edges, order):
        sent = self.net(torch.cat([h[edges[0]], self.bond(order)], dim=1))
        return scatter_sum(sent, edges[1], len(h))


class MPNN(nn.Module):
    def __init__(self, width=WIDTH, rounds=3):
        super().__init__()
        self.rounds = rounds
        self.atom = nn.Embedding(ATOMS, width - 1)
        self.message = Message(width)
        self.update = nn.GRUCell(width, width)
        self.readout = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1))

    def forward(self, graph):
        h = torch.cat([self.atom(graph["kinds"]), graph["charge"][:, None]], dim=1)
        for _ in range(self.rounds):
            h = self.update(self.message(h, graph["edges"], graph["order"]), h)
        size = int(graph["owner"][-1]) + 1
        return scatter_sum(self.readout(h), graph["owner"], size).squeeze(1)


def batches(molecules, size, rng):
    """Shuffled batches for ever."""
    while True:
        order = torch.randperm(len(molecules), generator=rng).tolist()
        for start in range(0, len(order) - size + 1, size):
            yield collate([molecules[i] for i in order[start : start + size]])


def run(steps=260, size=32, lr=3e-3):
    torch.manual_seed(SEED)
    rng = torch.Generator().manual_seed(SEED + 100)
    molecules = [molecule(rng) for _ in range(800)]
    targets = torch.stack([m["target"] for m in molecules])
    center, spread = targets.mean(), targets.std()
    for m in molecules:
        m["target"] = (m["target"] - center) / spread
    test = collate(molecules[700:])
    model = MPNN()
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    loss_fn = nn.MSELoss()
    for step, graph in zip(range(steps), batches(molecules[:700], size, rng)):
        loss = loss_fn(model(graph), graph["target"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 40 == 0:
            print(f"{step:5d} mse {loss.item():.4f}")
    model.eval()
    with torch.no_grad():
        return loss_fn(model(test), test["target"]).item()


if __name__ == "__main__":
    print(f"final test mse {run():.4f}")
