"""House prices from a messy table: each feature becomes a token, a small transformer reads the tokens."""
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

SEED = 0
CARDS = (5, 7, 9)  # kind, district, heating
D, HEADS, DEPTH = 24, 4, 2
ROWS, BATCH_SIZE, EPOCHS = 1280, 64, 10
LEARNING_RATE, WEIGHT_DECAY = 2e-3, 1e-2


def make_houses(rows, rng):
    area = rng.gamma(6.0, 20.0, rows)
    lot = rng.gamma(2.0, 300.0, rows)
    year = rng.integers(1900, 2021, rows).astype(float)
    rooms = np.round(area / 25 + rng.normal(0, 0.7, rows)).clip(1)
    noise = rng.normal(0, 1, rows)
    cats = np.stack([rng.integers(0, c, rows) for c in CARDS], 1)
    price = 0.6 * np.log(area) + 0.1 * np.log(lot + 1) + 0.004 * (year - 1960)
    price = price + 0.3 * np.sin(cats[:, 1]) + 0.15 * (cats[:, 0] == 2) * np.log(area) + 0.05 * rng.normal(size=rows)
    numeric = np.stack([area, lot, year, rooms, noise], 1)
    return numeric, cats, price


def to_tensors(numeric, cats, price, scale):
    center, spread = scale
    z = (numeric - center) / spread
    missing = np.random.default_rng(len(z)).random((len(z), z.shape[1] + cats.shape[1])) < 0.08
    present = torch.tensor(~missing)
    x = torch.tensor(z, dtype=torch.float32)
    y = torch.tensor((price - 4.3) / 0.5, dtype=torch.float32)
    return x, torch.tensor(cats), present, y


class Tokens(nn.Module):
    def __init__(self, n_num):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_num, D) * 0.4)
        self.bias = nn.Parameter(torch.randn(n_num, D) * 0.4)
        self.cats = nn.ModuleList([nn.Embedding(c, D) for c in CARDS])
        self.cls = nn.Parameter(torch.randn(1, 1, D) * 0.4)

    def forward(self, x, c):
        num = x[..., None] * self.weight + self.bias
        cat = torch.stack([e(c[:, i]) for i, e in enumerate(self.cats)], 1)
        return torch.cat([self.cls.expand(len(x), -1, -1), num, cat], 1)


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.ln1, self.ln2 = nn.LayerNorm(D), nn.LayerNorm(D)
        self.q, self.k, self.v = nn.Linear(D, D), nn.Linear(D, D), nn.Linear(D, D)
        self.merge = nn.Linear(D, D)
        self.up, self.down = nn.Linear(D, 2 * D), nn.Linear(2 * D, D)

    def forward(self, x, keep):
        b, t, _ = x.shape
        h = self.ln1(x)
        q, k, v = (p(h).view(b, t, HEADS, D // HEADS).transpose(1, 2) for p in (self.q, self.k, self.v))
        att = q @ k.transpose(-1, -2) * (D // HEADS) ** -0.5
        att = att.masked_fill(~keep[:, None, None], float("-inf"))
        att = att.softmax(-1)
        x = x + self.merge((att @ v).transpose(1, 2).reshape(b, t, D))
        h = self.up(self.ln2(x))
        h = F.relu(h)
        return x + self.down(h)


class FTRegressor(nn.Module):
    def __init__(self, n_num):
        super().__init__()
        self.tokens = Tokens(n_num)
        self.layers = nn.ModuleList([Layer() for _ in range(DEPTH)])
        self.norm = nn.LayerNorm(D)
        self.head = nn.Linear(D, 1)

    def forward(self, x, c, present):
        keep = torch.cat([torch.ones(len(x), 1, dtype=torch.bool), present], 1)
        z = self.tokens(x, c)
        for layer in self.layers:
            z = layer(z, keep)
        out = self.norm(z[:, 0])
        return self.head(out)


def predict(model, x, c, present):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = model(x, c, present)
    return out.float().squeeze(1)


def objective(pred, y):
    return F.mse_loss(pred, y)


def main():
    torch.manual_seed(SEED)
    rng = np.random.default_rng(SEED)
    train = make_houses(ROWS, rng)
    test = make_houses(256, rng)
    scale = train[0].mean(0), train[0].std(0)
    data = TensorDataset(*to_tensors(*train, scale))
    loader = DataLoader(data, batch_size=BATCH_SIZE, shuffle=True, drop_last=True)
    held_out = to_tensors(*test, scale)

    model = FTRegressor(train[0].shape[1])
    opt = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    for epoch in range(EPOCHS):
        model.train()
        total = 0.0
        for x, c, present, y in loader:
            opt.zero_grad()
            loss = objective(predict(model, x, c, present), y)
            loss.backward()
            opt.step()
            total += loss.item()
        print(f"epoch {epoch} train {total / len(loader):.4f}")
    model.eval()
    with torch.no_grad():
        return objective(predict(model, *held_out[:3]), held_out[3]).item()


if __name__ == "__main__":
    print(f"final {main():.4f}")
