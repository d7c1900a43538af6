import torch
import torch.nn as nn
import torch.nn.functional as F

SEED = 0
LR = 1e-2

N_USERS = 300
N_ITEMS = 200
N_GENRES = 12
HISTORY = 10
DIM = 24
BATCH = 128
EPOCHS = 6


def synth(gen):
    taste = torch.randn(N_USERS, N_GENRES, generator=gen)
    genre = torch.randint(0, N_GENRES, (N_ITEMS,), generator=gen)
    price = torch.rand(N_ITEMS, generator=gen) * 40 + 5
    quality = torch.randn(N_ITEMS, generator=gen)
    appeal = 2.0 * taste[:, genre] + quality + 0.5 * torch.randn(N_USERS, N_ITEMS, generator=gen)
    ranked = appeal.argsort(dim=1, descending=True)
    return ranked[:, :40], genre, price


class UserTower(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(N_ITEMS + 1, DIM, padding_idx=N_ITEMS)
        self.fc1 = nn.Linear(DIM, 48)
        self.fc2 = nn.Linear(48, DIM)

    def forward(self, history):
        vectors = self.table(history)
        real = (history != N_ITEMS).float().unsqueeze(-1)
        pooled = (vectors * real).sum(1) / real.sum(1).clamp(min=1)
        return self.fc2(F.relu(self.fc1(pooled)))


class ItemTower(nn.Module):
    def __init__(self):
        super().__init__()
        self.ids = nn.Embedding(N_ITEMS, DIM)
        self.genres = nn.Embedding(N_GENRES, 8)
        self.fc1 = nn.Linear(DIM + 8 + 1, 48)
        self.fc2 = nn.Linear(48, DIM)

    def forward(self, items, genre, price):
        features = torch.cat([self.ids(items), self.genres(genre), price.unsqueeze(-1)], dim=-1)
        return self.fc2(F.relu(self.fc1(features)))


class TwoTower(nn.Module):
    def __init__(self):
        super().__init__()
        self.user = UserTower()
        self.item = ItemTower()
        self.bias = nn.Embedding(N_ITEMS, 1)
        nn.init.zeros_(self.bias.weight)

    def forward(self, history, items, genre, price):
        u = self.user(history)
        v = self.item(items, genre, price)
        return (u * v).sum(-1) / DIM**0.5 + self.bias(items).squeeze(-1)


def pairs(liked, gen):
    """One row for each user and liked item: the item, and another one that was not liked."""
    users = torch.arange(N_USERS).repeat_interleave(liked.shape[1] - HISTORY)
    positives = liked[:, HISTORY:].reshape(-1)
    negatives = torch.randint(0, N_ITEMS, positives.shape, generator=gen)
    order = torch.randperm(len(users), generator=gen)
    return users[order], positives[order], negatives[order]


def histories(liked, gen):
    picked = liked[:, :HISTORY].clone()
    picked[torch.rand(picked.shape, generator=gen) < 0.2] = N_ITEMS
    picked[:, 0] = liked[:, 0]
    return picked


def main():
    torch.manual_seed(SEED)
    gen = torch.Generator().manual_seed(SEED)
    liked, genre, price = synth(gen)
    price = (price - price.mean()) / price.std()
    history = histories(liked, gen)
    model = TwoTower()
    optimizer = torch.optim.Adam(model.parameters(), lr=LR, weight_decay=1e-6)
    recent = []
    for epoch in range(EPOCHS):
        users, positives, negatives = pairs(liked, gen)
        for rows in range(0, len(users) - BATCH, BATCH):
            u, p, n = (t[rows : rows + BATCH] for t in (users, positives, negatives))
            good = model(history[u], p, genre[p], price[p])
            bad = model(history[u], n, genre[n], price[n])
            loss = -F.logsigmoid(good - bad).mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            recent.append(loss.item())
        auc = (good > bad).float().mean()
        print(f"epoch {epoch} bpr {sum(recent[-50:]) / 50:.4f} auc {auc:.3f}")
    print(f"final bpr {sum(recent[-50:]) / 50:.4f}")


if __name__ == "__main__":
    main()
