"""--layers and --watch-step, from the command line to the trace."""

import subprocess
import sys
from pathlib import Path

import nandoctor

TRAINING = """
import torch
from torch import nn
torch.manual_seed(0)
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(6, 8)
        self.outer = nn.Linear(8, 1)
    def forward(self, x, step):
        h = torch.sigmoid(self.inner(x))
        with torch.no_grad():
            scale = torch.log(h.mean() * (0.0 if step == 5 else 1.0)).abs()  # no gradient: no graph
        return self.outer(h * helper(scale))
def helper(scale):
    return scale * 1.0
net = Net()
optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
for step in range(8):
    optimizer.zero_grad()
    loss = net(torch.randn(4, 6), step).pow(2).mean()
    loss.backward()
    optimizer.step()
"""


def record(folder: Path, *options: str) -> Path:
    (folder / "train.py").write_text(TRAINING)
    subprocess.run(
        [sys.executable, "-m", "nandoctor", "record", *options, "--", sys.executable, "train.py"],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip
    return folder / "run.parquet"


def test_layers_keeps_the_rows_of_matching_layers_and_every_run_level_row(tmp_path):
    rows = nandoctor.read_trace(record(tmp_path, "--layers", "inner"))
    per_layer = rows[rows.kind.isin(["activation", "output_gradient", "weight", "update", "parameter_gradient"])]
    assert set(per_layer.layer) == {"inner", "inner.weight", "inner.bias"}
    assert (rows.kind == "loss").sum() == 8 and (rows.kind == "gradient_norm").sum() == 8


def test_watch_step_names_an_operation_without_a_gradient(tmp_path):
    born = nandoctor.diagnose(record(tmp_path, "--watch-step", "5")).first_nonfinite
    assert born is not None
    assert (born.step, born.phase, born.layer, born.op) == (5, "forward", "", "log")
    assert "torch.log" in TRAINING.splitlines()[born.line - 1]
