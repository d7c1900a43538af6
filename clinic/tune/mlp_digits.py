import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch.utils.data import DataLoader, TensorDataset

SEED = 0
LR = 0.05
BATCH = 64
EPOCHS = 14
HIDDEN = 128


class MLP(nn.Module):
    def __init__(self, width=HIDDEN, classes=10):
        super().__init__()
        self.fc1 = nn.Linear(64, width)
        self.fc2 = nn.Linear(width, width)
        self.fc3 = nn.Linear(width, width)
        self.out = nn.Linear(width, classes)

    def forward(self, x):
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        x = F.relu(self.fc3(x))
        return self.out(x)


def load():
    digits = load_digits()
    x = torch.tensor(digits.data, dtype=torch.float32) / 16.0
    y = torch.tensor(digits.target, dtype=torch.long)
    return train_test_split(x, y, test_size=0.2, random_state=SEED, stratify=y)


@torch.no_grad()
def evaluate(model, x, y):
    model.eval()
    logits = model(x)
    model.train()
    return F.cross_entropy(logits.float(), y).item(), (logits.argmax(1) == y).float().mean().item()


def main():
    torch.manual_seed(SEED)
    x_train, x_val, y_train, y_val = load()
    loader = DataLoader(TensorDataset(x_train, y_train), batch_size=BATCH, shuffle=True, drop_last=True)
    model = MLP()
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=0.9)
    step = 0
    for epoch in range(EPOCHS):
        running = 0.0
        for x, y in loader:
            optimizer.zero_grad()
            logits = model(x)
            loss = F.cross_entropy(logits, y)
            loss.backward()
            optimizer.step()
            running += loss.item()
            step += 1
        val_loss, accuracy = evaluate(model, x_val, y_val)
        if epoch % 2 == 0:
            print(f"epoch {epoch:2d} train {running / len(loader):.4f} val {val_loss:.4f} acc {accuracy:.3f}")
    val_loss, accuracy = evaluate(model, x_val, y_val)
    print(f"accuracy {accuracy:.4f}")
    print(f"final loss {val_loss:.4f}")


if __name__ == "__main__":
    main()
