"""What `record --probe` costs: a probed step against the same step recorded without, on three models.

    python benchmarks/probe_cost.py

Each model is trained once under --probe. It times its own steps: the fastest of the probed ones against the fastest of
the others, so that a busy machine does not count; 19 steps hold one probe once the first ten are over.
"""

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd

import nandoctor

TRAIN = """
import sys, time
import torch
from torch import nn
torch.manual_seed(0)
kind = sys.argv[1]
if kind == "small":
    net = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 10)); x = torch.randn(32, 20)
elif kind == "wide":
    net = nn.Sequential(*[m for _ in range(6) for m in (nn.Linear(1024, 1024), nn.ReLU())]); x = torch.randn(128, 1024)
else:
    layer = nn.TransformerEncoderLayer(256, 4, 1024, batch_first=True)
    net = nn.TransformerEncoder(layer, 4, enable_nested_tensor=False); x = torch.randn(16, 64, 256)
optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4)
for step in range(70):
    start = time.perf_counter()
    optimizer.zero_grad()
    loss = (net(x) - 1).pow(2).mean()
    loss.backward()
    optimizer.step()
    print(time.perf_counter() - start)
"""


def cost(kind: str, folder: Path) -> tuple[float, float, float]:
    """Fastest plain step, fastest probed step, trials of a probed step."""
    (folder / "train.py").write_text(TRAIN)
    output = folder / f"{kind}.parquet"
    command = [sys.executable, "-m", "nandoctor", "record", "--probe", "-o", str(output), "--", sys.executable]
    done = subprocess.run([*command, "train.py", kind], cwd=folder, capture_output=True, text=True, check=True)
    times = [float(line) for line in done.stdout.splitlines()]
    rows = nandoctor.read_trace(output)
    factors: pd.Series[float] = rows[rows.kind == "critical_factor"].value.astype(float)
    probed = set(rows[rows.kind == "critical_factor"].step)
    trials = statistics.mean(3 if factor < 4 else 4 if factor < 16 else 5 for factor in factors)  # none below 1
    plain = [seconds for step, seconds in enumerate(times) if step not in probed and step > 10]
    return min(plain), min(times[step] for step in probed if step), trials


def main() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        print("model        step ms   probed ms   trials   in all, one step in 19")
        for kind in ("small", "wide", "transformer"):
            plain, probed, trials = cost(kind, Path(folder))
            share = (18 * plain + probed) / (19 * plain)
            print(f"{kind:12} {1e3 * plain:7.1f} {1e3 * probed:11.1f} {trials:8.1f}   x {share:.2f}", flush=True)


if __name__ == "__main__":
    main()
