"""Small programs in several styles, each with one fault; the last number that they print is the loss of a sound run."""

HEAD = """import argparse

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x = torch.randn(384, 6)
y = (x[:, :1] - x[:, 1:2]).tanh()
classes = (x[:, 0] > 0).long() + (x[:, 1] > 0).long()
"""

LOOP = """
for step in range({steps}):
    loss = {loss}
    {optimizer}.zero_grad()
    loss.backward()
    {optimizer}.step()
print(loss.item())
"""


def loop(steps=120, loss="F.mse_loss(model(x), y)", optimizer="optimizer"):
    return LOOP.format(steps=steps, loss=loss, optimizer=optimizer)


SCRIPTS = {
    "bad-initialization in a Trainer class": HEAD + """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 32), nn.ReLU())
        self.head = nn.Linear(32, 1)
        nn.init.normal_(self.head.weight, std=200.0)

    def forward(self, inputs):
        return self.head(self.body(inputs))


class Trainer:
    def __init__(self, net, lr):
        self.net = net
        self.algorithm = torch.optim.Adam(self.net.parameters(), lr=lr)

    def fit(self):
        for step in range(150):
            loss = F.mse_loss(self.net(x), y)
            self.algorithm.zero_grad()
            loss.backward()
            self.algorithm.step()
        return loss.item()


print(Trainer(Net(), 0.01).fit())
""",
    "dead-relu with an optimizer from a function": HEAD + """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(6, 32)
        self.fc2 = nn.Linear(32, 32)
        self.out = nn.Linear(32, 1)
        nn.init.constant_(self.fc2.bias, -9.0)

    def forward(self, inputs):
        return self.out(F.relu(self.fc2(F.relu(self.fc1(inputs)))))


def make_optimizer(parameters, lr):
    return torch.optim.Adam(parameters, lr=lr)


def train(model, steps):
    sgd = make_optimizer(model.parameters(), lr=0.005)
    for step in range(steps):
        loss = F.mse_loss(model(x), y)
        sgd.zero_grad()
        loss.backward()
        sgd.step()
    return loss.item()


print(train(Net(), 200))
""",
    "loss-plateau at a rate of crumbs, from the command line": HEAD + """
parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=2e-6)
args = parser.parse_args()
model = nn.Sequential(nn.Linear(6, 32), nn.Tanh(), nn.Linear(32, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
""" + loop(450),
    "loss-plateau of an optimizer that holds one layer": HEAD + """
model = nn.Sequential(nn.Linear(6, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1))
with torch.no_grad():
    model[4].weight.mul_(0.01)
optimizer = torch.optim.Adam(model[0].parameters(), lr=0.003)
""" + loop(250),
    "vanishing-gradients through sigmoids": HEAD + """
layers = [nn.Linear(6, 32), nn.Sigmoid()]
for _ in range(8):
    layers += [nn.Linear(32, 32), nn.Sigmoid()]
model = nn.Sequential(*layers, nn.Linear(32, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
""" + loop(150),
    "bad-labels that mean not labelled": HEAD + """
classes[::5] = -1
model = nn.Sequential(nn.Linear(6, 32), nn.Tanh(), nn.Linear(32, 3))
optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
""" + loop(loss="F.cross_entropy(model(x), classes)"),
    "bad-labels beyond the outputs": HEAD + """
class Net(nn.Module):
    def __init__(self, outputs):
        super().__init__()
        self.body = nn.Linear(6, 32)
        self.head = nn.Linear(32, outputs)

    def forward(self, inputs):
        return self.head(torch.tanh(self.body(inputs)))


model = Net(outputs=2)
optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
""" + loop(loss="F.cross_entropy(model(x), classes)"),
    "bad-labels of which a batch ignores all": HEAD + """
model = nn.Sequential(nn.Linear(6, 32), nn.Tanh(), nn.Linear(32, 3))
optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
criterion = nn.CrossEntropyLoss()
for step in range(120):
    labels = torch.full_like(classes, -100) if step == 60 else classes
    loss = criterion(model(x), labels)
    optimizer.zero_grad()
    loss.backward()
    if not torch.isfinite(loss):
        raise SystemExit("nan")
    optimizer.step()
print(loss.item())
""",
    "bad-labels that are missing": HEAD + """
y[7] = float("nan")
model = nn.Sequential(nn.Linear(6, 32), nn.Tanh(), nn.Linear(32, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
for step in range(100):
    for inputs, targets in DataLoader(TensorDataset(x, y), batch_size=128):
        loss = F.mse_loss(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
print(loss.item())
""",
    "data-outlier in a few rows": HEAD + """
x[200] *= 1e6
model = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
for epoch in range(40):
    for inputs, targets in DataLoader(TensorDataset(x, y), batch_size=32):
        loss = F.mse_loss(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
print(loss.item())
""",
    "data-outlier of columns that were never scaled": HEAD + """
x = x * torch.tensor([1.0, 1.0, 1.0, 3e4, 1.0, 1.0]) + torch.tensor([0.0, 0.0, 0.0, 9e4, 0.0, 0.0])
model = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
""" + loop(200),
    "batchnorm-tiny-batch of two": HEAD + """
model = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
for epoch in range(20):
    for inputs, targets in DataLoader(TensorDataset(x[:64], y[:64]), batch_size=2, shuffle=True):
        loss = F.mse_loss(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
print(F.mse_loss(model(x[:64]), y[:64]).item())
""",
    "corrupt-weights by code of its own": HEAD + """
def train():
    model = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for step in range(150):
        loss = F.mse_loss(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step == 80:
            with torch.no_grad():
                weight = model[2].weight
                weight.div_(weight[weight > 9].abs().mean())
    return loss.item()


print(train())
""",
    "corrupt-weights by a checkpoint": HEAD + """
model = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for step in range(150):
    if step == 50:
        torch.save({k: v / v.new_tensor(0.0) for k, v in model.state_dict().items()}, "averaged.pt")
        model.load_state_dict(torch.load("averaged.pt"))
    loss = F.mse_loss(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print(loss.item())
""",
    "gradient-accumulation-bug under a name of its own": HEAD + """
net = nn.Sequential(nn.Linear(6, 32), nn.Tanh(), nn.Linear(32, 1))
algorithm = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
for step in range(100):
    loss = F.mse_loss(net(x), y)
    loss.backward()
    algorithm.step()
print(loss.item())
""",
}  # fmt: skip
