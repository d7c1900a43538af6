"""Training loops in packages refuse a loss that is not finite by an exception of their own."""

import sys

import nandoctor
from tests.launch.commands import recorded

LIBRARY = """
import torch
def fit(net, data, optimizer):
    for x in data:
        loss = net(x).log().mean()
        if not torch.isfinite(loss):
            raise ArithmeticError("loss is not finite")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
"""
PROGRAM = """
import sys
sys.path.insert(0, "site-packages")
import torch, loops
net = torch.nn.Sequential(torch.nn.Linear(4, 1), torch.nn.Sigmoid())
data = [torch.rand(8, 4) for _ in range(6)]
data[4][2] = -1e9
torch.nn.init.ones_(net[0].weight)
loops.fit(net, data, torch.optim.SGD(net.parameters(), lr=0.01))
"""


def test_the_loss_in_the_packages_own_frame_is_traced(tmp_path):
    (tmp_path / "site-packages").mkdir()
    (tmp_path / "site-packages" / "loops.py").write_text(LIBRARY)
    (tmp_path / "train.py").write_text(PROGRAM)
    seen = recorded([sys.executable, "train.py"], tmp_path)
    assert seen.returncode == 1
    found = nandoctor.diagnose(tmp_path / "run.parquet")
    assert found.verdict != "healthy" and found.run.crash.type == "ArithmeticError"
    assert (found.first_nonfinite.step, found.first_nonfinite.op) == (4, "log")
    assert found.first_nonfinite.library_file.endswith("loops.py")
