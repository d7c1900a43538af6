"""Of a run near its size limit not every step has a row; it has not trained fewer steps for that."""

import subprocess
import sys

from nandoctor.trace.open import open_trace

PROGRAM = """
import torch
weight = torch.nn.Parameter(torch.ones(3))
optimizer = torch.optim.SGD([weight], lr=1e-3)
for step in range(3001):
    optimizer.zero_grad()
    (weight ** 2).sum().backward()
    optimizer.step()
"""


def test_steps_that_were_left_out_of_a_small_trace_count(tmp_path):
    (tmp_path / "train.py").write_text(PROGRAM)
    record = [sys.executable, "-m", "nandoctor", "record", "--quiet", "--max-size", "1M", "--"]
    subprocess.run([*record, sys.executable, "train.py"], cwd=tmp_path, check=True, capture_output=True)
    trace = open_trace(tmp_path / "run.parquet")
    assert trace.steps == 3001
    assert len(trace.rows("step")) < 3001  # else the test shows nothing
