import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

SEED = 0
LR = 4e-3

config = {
    "users": 150,
    "items": 120,
    "ratings": 5200,
    "dim": 12,
    "hidden": 32,
    "batch": 128,
    "epochs": 7,
    "weight_decay": 1e-5,
}


def synth_ratings(seed):
    rng = np.random.RandomState(seed)
    p = rng.randn(config["users"], 4)
    q = rng.randn(config["items"], 4)
    bu = 0.5 * rng.randn(config["users"])
    bi = 0.5 * rng.randn(config["items"])
    u = rng.randint(0, config["users"], config["ratings"])
    i = rng.randint(0, config["items"], config["ratings"])
    score = 3.0 + bu[u] + bi[i] + 0.6 * (p[u] * q[i]).sum(1) + 0.2 * rng.randn(len(u))
    frame = pd.DataFrame({"user": u, "item": i, "rating": np.clip(score, 0.5, 5.5)})
    meta = pd.DataFrame({"item": np.arange(config["items"]), "year": rng.randint(1960, 2020, config["items"]), "views": rng.randint(10, 900, config["items"])})
    return frame, meta


def prepare(frame, meta):
    data = frame.merge(meta, on="item", how="left")
    data["year"] = (data["year"] - 1990) / 20.0
    data["views"] = np.log(data["views"]) / 5.0
    return data


class RatingDataset(Dataset):
    def __init__(self, data):
        self.pairs = torch.tensor(data[["user", "item"]].values, dtype=torch.long)
        self.side = torch.tensor(data[["year", "views"]].values, dtype=torch.float32)
        self.rating = torch.tensor(data["rating"].values, dtype=torch.float32)

    def __len__(self):
        return len(self.rating)

    def __getitem__(self, idx):
        return self.pairs[idx, 0], self.pairs[idx, 1], self.side[idx], self.rating[idx]


class NeuralMF(nn.Module):
    def __init__(self, users, items, dim, hidden):
        super().__init__()
        self.user_emb = nn.Embedding(users, dim)
        self.item_emb = nn.Embedding(items, dim)
        self.user_bias = nn.Embedding(users, 1)
        self.item_bias = nn.Embedding(items, 1)
        self.head = nn.Sequential(
            nn.Linear(3 * dim + 2, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, 1),
        )
        self.mean = nn.Parameter(torch.tensor(0.0))
        for emb in (self.user_emb, self.item_emb):
            nn.init.normal_(emb.weight, std=0.3)
        for emb in (self.user_bias, self.item_bias):
            nn.init.zeros_(emb.weight)

    def forward(self, user, item, side):
        u = self.user_emb(user)
        v = self.item_emb(item)
        joint = torch.cat([u, v, u * v, side], dim=-1)
        bias = self.user_bias(user) + self.item_bias(item)
        score = self.head(joint) + bias + (u * v).sum(-1, keepdim=True)
        return score.squeeze(-1) + self.mean


def run_epoch(model, loader, optimizer, log):
    model.train()
    for user, item, side, rating in loader:
        pred = model(user, item, side)
        loss = nn.functional.mse_loss(pred, rating)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        log.append(loss.item())


def validate(model, loader):
    model.eval()
    err = []
    with torch.no_grad():
        for user, item, side, rating in loader:
            err.append((model(user, item, side) - rating) ** 2)
    return torch.cat(err).mean().item()


if __name__ == "__main__":
    torch.manual_seed(SEED)
    frame, meta = synth_ratings(SEED)
    data = prepare(frame, meta)
    train_data, valid_data = data.iloc[:4600], data.iloc[4600:]
    train_loader = DataLoader(RatingDataset(train_data), batch_size=config["batch"], shuffle=True)
    valid_loader = DataLoader(RatingDataset(valid_data), batch_size=300)
    model = NeuralMF(config["users"], config["items"], config["dim"], config["hidden"])
    optimizer = torch.optim.Adam(model.parameters(), lr=LR, weight_decay=config["weight_decay"])
    log = []
    for epoch in range(config["epochs"]):
        run_epoch(model, train_loader, optimizer, log)
        print(f"epoch {epoch}: first {log[-len(train_loader)]:.4f} last {log[-1]:.4f} valid {validate(model, valid_loader):.4f}")
    print(f"final train loss {np.mean(log[-40:]):.4f}")
