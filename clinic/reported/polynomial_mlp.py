import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

SEED = 0
LR = 0.01
EPOCHS = 14
BATCH = 64
ROWS = 1920
DEGREE = 3
CLIP = None

COLUMNS = ["area", "rooms", "age", "distance", "income", "pool"]


def make_houses(rng):
    area = rng.gamma(10.0, 11.0, ROWS)
    rooms = np.clip(np.round(area / 28 + rng.normal(0, 0.8, ROWS)), 1, 9)
    age = rng.uniform(4, 66, ROWS)
    distance = rng.gamma(3.2, 2.5, ROWS)
    income = rng.normal(52, 14, ROWS)
    pool = (rng.uniform(size=ROWS) < 0.04).astype(float)
    table = np.stack([area, rooms, age, distance, income, pool], axis=1)
    price = 1.9 * area + 9.0 * rooms - 0.9 * age + 2.1 * income + 30.0 * pool
    price += 180.0 / (1.0 + distance) + 0.02 * (income - 52) * (area - 110)
    price += rng.normal(0, 8.0, ROWS)
    return table, price


def prepare(table, price, split):
    mean, std = table[:split].mean(0), table[:split].std(0)
    x = (table - mean) / std
    y = (price - price[:split].mean()) / price[:split].std()
    return torch.tensor(x, dtype=torch.float32), torch.tensor(y, dtype=torch.float32)


class CrossLayer(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.proj = nn.Linear(width, width)

    def forward(self, first, h):
        return first * self.proj(h) + h


class PolynomialMLP(nn.Module):
    def __init__(self, features, width=24, hidden=48):
        super().__init__()
        self.embed = nn.Linear(features, width)
        self.cross = nn.ModuleList([CrossLayer(width) for _ in range(DEGREE - 1)])
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU())
        self.head = nn.Linear(hidden, 1)

    def forward(self, x):
        first = self.embed(x)
        h = first
        for layer in self.cross:
            h = layer(first, h)
        h = self.mlp(h)
        return self.head(h).squeeze(1)


def evaluate(model, loader, criterion):
    model.eval()
    total, count = 0.0, 0
    with torch.no_grad():
        for x, y in loader:
            total += criterion(model(x), y).item() * len(x)
            count += len(x)
    model.train()
    return total / count


def main():
    torch.manual_seed(SEED)
    rng = np.random.RandomState(SEED)
    table, price = make_houses(rng)
    split = ROWS * 4 // 5
    x, y = prepare(table, price, split)
    train_set = TensorDataset(x[:split], y[:split])
    test_set = TensorDataset(x[split:], y[split:])
    train_loader = DataLoader(train_set, batch_size=BATCH, shuffle=True)
    test_loader = DataLoader(test_set, batch_size=128)

    model = PolynomialMLP(len(COLUMNS))
    criterion = nn.MSELoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=0.9)

    for epoch in range(EPOCHS):
        running = 0.0
        for xb, yb in train_loader:
            pred = model(xb)
            loss = criterion(pred, yb)
            optimizer.zero_grad()
            loss.backward()
            if CLIP:
                nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimizer.step()
            running += loss.item()
        print(f"epoch {epoch + 1:2d}  train mse {running / len(train_loader):.4f}")

    print(f"final test mse {evaluate(model, test_loader, criterion):.5f}")


if __name__ == "__main__":
    main()
