"""`nandoctor diagnose --patch`: the diff applies with `patch -p0`, and the patched script trains."""

import math
import os
import shutil
import subprocess
import sys

import pytest

HEAD = """import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x = torch.randn(385, 6)
y = (x[:, :1] - x[:, 1:2]).tanh()
"""
SCRIPTS = {
    "an lr that is far too high": HEAD + """
LR = 6.0
model = nn.Sequential(nn.Linear(6, 64), nn.ReLU(), nn.Linear(64, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=0.9)
for step in range(60):
    loss = nn.functional.mse_loss(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print(loss.item())
""",
    "a root at 0": HEAD + """
model = nn.Linear(6, 1)
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for step in range(120):
    output = model(x)
    distance = (output - output.detach()).square().sum(1).sqrt()
    loss = nn.functional.mse_loss(output, y) + distance.mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print(nn.functional.mse_loss(model(x), y).item())
""",
    "one sample left over": HEAD + """
model = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
loader = DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True)
for epoch in range(3):
    for inputs, targets in loader:
        loss = nn.functional.mse_loss(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
print(loss.item())
""",
    "gradients that are never cleared": HEAD + """
model = nn.Sequential(nn.Linear(6, 32), nn.Tanh(), nn.Linear(32, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
for step in range(100):
    loss = nn.functional.mse_loss(model(x), y)
    loss.backward()
    optimizer.step()
print(loss.item())
""",
}


def run(folder, *command):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)


def learned(done):
    return done.returncode == 0 and math.isfinite(loss := float(done.stdout.split()[-1])) and loss < 0.3


@pytest.mark.skipif(shutil.which("patch") is None, reason="there is no patch program here")
@pytest.mark.parametrize("name, command", [
    ("an lr that is far too high", "record"), ("a root at 0", "treat"),
    ("one sample left over", "treat"), ("gradients that are never cleared", "record"),
])  # fmt: skip
def test_the_patched_script_trains(name, command, tmp_path):
    (tmp_path / "train.py").write_text(SCRIPTS[name], encoding="utf-8")
    sick = run(tmp_path, sys.executable, "-m", "nandoctor", command, "--", sys.executable, "train.py")
    assert command == "treat" or not learned(sick)

    said = run(tmp_path, sys.executable, "-m", "nandoctor", "diagnose", "--patch", "run.parquet")
    assert said.returncode == 1 and said.stdout.startswith("--- train.py\n+++ train.py\n"), said.stderr
    (tmp_path / "cure.diff").write_text(said.stdout, encoding="utf-8")
    applied = run(tmp_path, "patch", "-p0", "-i", "cure.diff")
    assert applied.returncode == 0, applied.stdout

    assert learned(run(tmp_path, sys.executable, "train.py"))
