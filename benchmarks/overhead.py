"""What recording costs: CPU time, memory and bytes on six trainings, beside the usual ways to look for a NaN.

`make overhead` (`--rounds N`, `--only WORKLOAD,...`, `--variants bare,default`, `--write docs/overhead.md`). Each round
runs every variant of a workload once, one after the other, in a new order; a ratio is taken within a round, and its
median over the rounds stands in the table with the 95 % interval of the median (order statistics). CPU time is user +
system of the training loop in the training process; the first 100 steps, which are recorded whole, stand in a column
of their own.
"""

import argparse
import json
import math
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch

import nandoctor
from nandoctor.launch.environment import environment
from nandoctor.launch.request import Request
from nandoctor.trace.open import open_trace

TRAIN = str(Path(__file__).parent / "workloads" / "train.py")
FAULT = Path(__file__).parent / "workloads" / "fault.py"
STEPS = {"mlp": 4000, "lstm": 2000, "cells": 2000, "encoder": 2000, "decoder": 160, "resnet": 130, "midsize": 20_000}
WHAT = {
    "mlp": "MLP 4x256, batch 64", "lstm": "LSTM, 64 time steps", "cells": "LSTMCell in a loop of 64",
    "encoder": "encoder d 128, 4 layers, dictionaries", "decoder": "decoder d 256, 6 layers, 128 tokens, batch 8",
    "resnet": "ResNet-18 on 32x32, batch 32", "midsize": "MLP 4x512, batch 256, 20,000 steps",
}  # fmt: skip
BARS = {"default": {"mlp": 1.05, "": 1.03}, "whole": {"mlp": 1.25, "": 1.15}}
VARIANTS = {
    "bare": "bare", "default": "nandoctor", "whole": "nandoctor --budget 0", "anomaly": "detect_anomaly",
    "prints": "isnan/max of every module", "underflow": "DebugUnderflowOverflow", "sherlorch": "sherlorch",
}  # fmt: skip
SHORTER = 0.25  # of the steps: where each costs the same
PEER_ROUNDS = 2
OURS = ("bare", "default", "whole")


@dataclass(frozen=True)
class Run:
    first: float
    early: float
    late: float
    late_steps: int
    peak: int  # KiB
    faults: float  # pages fetched, a late step
    rows: int = 0
    size: int = 0
    own: float = 0.0  # share of the run, by the clock around nandoctor's hooks


def variants() -> list[str]:
    missing = {"underflow": "transformers", "sherlorch": "sherlorch"}
    return [name for name in VARIANTS if name not in missing or find_spec(missing[name])]


def train(workload: str, variant: str, threads: int) -> Run:
    steps = STEPS[workload]
    watcher = [] if variant in OURS else [variant]
    if variant not in ("bare", "default"):
        steps = max(int(steps * SHORTER), 120)
    outer = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    with tempfile.TemporaryDirectory() as folder:
        output = os.path.join(folder, "run.parquet")
        command = [sys.executable, TRAIN, workload, str(steps), *watcher]
        if variant in ("default", "whole"):
            extra = ["--budget", "0"] if variant == "whole" else []
            command = [sys.executable, "-m", "nandoctor", "record", "--quiet", "-o", output, *extra, "--", *command]
        done = subprocess.run(command, env=outer, check=True, capture_output=True, text=True)
        said = json.loads(done.stdout.splitlines()[-1])
        rows = size = 0
        own = 0.0
        if os.path.exists(output):
            import pyarrow.parquet

            rows, size = pyarrow.parquet.ParquetFile(output).metadata.num_rows, os.path.getsize(output)
            cost = open_trace(Path(output)).notes_of("cost")[-1]
            own = float(cost["seconds"]) / float(cost["elapsed"])
    late = steps - 100
    return Run(said["first"], said["early"], said["late"], late, said["peak"], said["faults"] / late, rows, size, own)


def interval(values: list[float]) -> tuple[float, float, float]:
    """Median and the order statistics that hold it with at least 95 % (binomial); the range for fewer than six."""
    ordered, n = sorted(values), len(values)
    below = 0
    while n >= 6 and sum(math.comb(n, k) for k in range(below + 1)) / 2**n <= 0.025:
        below += 1
    edge = max(below - 1, 0)
    return statistics.median(ordered), ordered[edge], ordered[n - 1 - edge]


def start_up(rounds: int) -> tuple[float, float]:
    """Milliseconds before the script's first line, and for `import torch` in it: added, medians of pairs."""
    lines, imports = [], []
    probe = "import time; a = time.time(); import torch; print(a, time.time())"
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(rounds):
            found = []
            for recorded in (False, True):
                variables = dict(os.environ)
                if recorded:
                    variables = environment(Request(("x",), os.path.join(folder, "r.parquet")), "", folder, variables)
                began = time.time()
                done = subprocess.run([sys.executable, "-c", probe], env=variables, capture_output=True, text=True)
                line, imported = (float(word) for word in done.stdout.split())
                found.append((line - began, imported - line))
            lines.append(found[1][0] - found[0][0])
            imports.append(found[1][1] - found[0][1])
    return statistics.median(lines) * 1e3, statistics.median(imports) * 1e3


def named() -> list[str]:
    """A fault at a step between two recorded ones, at the same settings: what the report names."""
    said = []
    for workload in ("mlp", "cells", "encoder"):
        with tempfile.TemporaryDirectory() as folder:
            output = os.path.join(folder, "run.parquet")
            command = [sys.executable, "-m", "nandoctor", "record", "--quiet", "-o", output, "--",
                       sys.executable, str(FAULT), workload, "140", "133"]  # fmt: skip
            subprocess.run(command, check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
            born = nandoctor.diagnose(output).first_nonfinite
            text = "" if born is None or born.line is None else FAULT.read_text().splitlines()[born.line - 1].strip()
            right = born is not None and (born.step, born.op) == (133, "log") and "torch.log(" in text
            what = "nothing" if born is None else f"step {born.step}, {born.op}, `{text}`"
            said.append(f"- {WHAT[workload]}: {what}: {'right' if right else 'WRONG'}")
    return said


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", default=",".join(STEPS))
    parser.add_argument("--variants", default=",".join(VARIANTS))
    parser.add_argument("--write")
    chosen = parser.parse_args()
    lines = [
        "| training | variant | CPU time after step 100 | first 100 steps | first step | own clock | memory "
        "| page faults a step | rows a step | bytes a row |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    failed = []
    for workload in chosen.only.split(","):
        runs: dict[str, list[Run]] = {name: [] for name in variants()}
        long = workload == "midsize"
        names = ["bare", "default"] if long else [n for n in runs if n == "bare" or n in chosen.variants.split(",")]
        for number in range(max(chosen.rounds // 3, 3) if long else chosen.rounds):
            for name in random.Random(number).sample(names, len(names)):
                if name not in OURS and number >= PEER_ROUNDS:
                    continue
                runs[name].append(train(workload, name, chosen.threads))
                print(f"{workload} {name} {runs[name][-1]}", file=sys.stderr, flush=True)
        for name in names:
            mine, bare = runs[name], runs["bare"]
            pairs = list(zip(mine, bare, strict=False))  # rivals run in the first rounds alone
            late = interval([a.late / a.late_steps / (b.late / b.late_steps) for a, b in pairs])
            early = statistics.median(a.early / b.early for a, b in pairs)
            first = statistics.median(a.first / b.first for a, b in pairs)
            memory = statistics.median(a.peak - b.peak for a, b in pairs) / 1024
            last = mine[-1]
            steps = last.late_steps + 100
            lines.append(
                f"| {WHAT[workload]} | {VARIANTS[name]} | {late[0]:.3f} ({late[1]:.3f} to {late[2]:.3f}) | {early:.2f} "
                f"| {first:.1f} | {last.own:.1%} | {memory:+.0f} MiB "
                f"| {statistics.median(run.faults for run in mine):.0f} | {last.rows / steps if last.rows else 0:.1f} "
                f"| {last.size / last.rows if last.rows else 0:.1f} |"
            )
            bar = BARS.get(name, {})
            if bar and late[2] > bar.get(workload, bar[""]):
                failed.append(f"{workload} {name}: {late[2]:.3f} above {bar.get(workload, bar[''])}")
            print(lines[-1], flush=True)
    added = start_up(11)
    text = "\n".join([
        "# What recording costs", "",
        f"`make overhead`, {chosen.rounds} rounds, {chosen.threads} thread(s); {os.cpu_count()} cores, "
        f"{platform.system()}, Python {platform.python_version()}, torch {torch.__version__}. Ratios to the bare run "
        "of the same round: medians, with the 95 % interval of the median. Variants that cost the same at every step "
        "ran a quarter of the steps, rivals twice.",
        "",
        *lines, "",
        f"Start-up: {added[0]:+.0f} ms before the script's first line, {added[1]:+.0f} ms for its `import torch`.", "",
        "A fault between two steps that were recorded whole, at the default settings:", "", *named(), "",
        *([f"Above the bar (upper end): {line}" for line in failed] or ["Every upper end is below its bar."]), "",
    ])  # fmt: skip
    print(text)
    if chosen.write:
        Path(chosen.write).write_text(text)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
