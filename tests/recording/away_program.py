"""A training whose tensors are read as if they lay on an accelerator: python away_program.py FAULT_AT WHOLE_STEPS."""

import os
import sys
from pathlib import Path
from types import ModuleType

package = ModuleType("_nandoctor")  # as recording/inject does it
package.__path__ = [str(Path(__file__).parents[2] / "nandoctor")]
sys.modules["_nandoctor"] = package

from _nandoctor.recording import stats  # noqa: E402
from _nandoctor.recording.arm import arm  # noqa: E402

stats.HERE.clear()
os.environ.update(NANDOCTOR_OUTPUT="run.parquet", NANDOCTOR_WHOLE_STEPS=sys.argv[2], NANDOCTOR_BUDGET="0.0001")
arm()

import torch  # noqa: E402
from torch import nn  # noqa: E402

torch.manual_seed(0)
fault = int(sys.argv[1])
net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
for step in range(20):
    optimizer.zero_grad()
    loss = net(torch.randn(16, 4)).pow(2).mean()
    if step == fault:
        net[2].weight.register_hook(lambda g: g * float("nan"))  # seen by nobody but the optimizer
    loss.backward()
    optimizer.step()
