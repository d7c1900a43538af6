"""Time and memory of `nandoctor diagnose` on long runs: `make diagnose-large`; millions of rows as arguments (1 3 10).

A training of 50 layers is recorded for real; its steps are then repeated, every number shaken by a few percent so
that nothing compresses better than a real run, until the trace has the rows wanted. `diagnose` runs in a process of
its own, whose peak memory the kernel reports; of three rounds the quietest counts. Fails where 10 million rows take
more than they may.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from nandoctor.trace.open import open_trace
from nandoctor.trace.recover import write_file
from nandoctor.trace.rows import SPOOL_ROW, RowSource, survey
from nandoctor.trace.schema import KIND, KIND_NAMES, KINDS
from nandoctor.trace.trace import Trace

PROGRAM = Path(__file__).with_name("fifty_layers.py")
FIRST = 10  # steps from here on are repeated: the first ones are measured more closely than the others
SHAKE = 0.05  # of each measured number, up or down
SECONDS, MEBIBYTES, ROUNDS = 5.0, 500.0, 3  # issue 3: what 10 million rows may take; the best of so many
MILLION = 1_000_000
SHAKEN = [KIND[name] for name in ("activation", "output_gradient", "parameter_gradient", "weight", "update", "loss",
                                  "backward", "gradient_norm", "clip", "input", "batch")]  # fmt: skip


def recorded(folder: Path) -> Trace:
    output = folder / "small.parquet"
    subprocess.run(
        [sys.executable, "-m", "nandoctor", "record", "--quiet", "-o", output, "--", sys.executable, PROGRAM],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True,
    )  # fmt: skip
    return open_trace(output)


def spool_rows(trace: Trace) -> np.ndarray:
    """A finished trace's rows as the spool held them, in order of time."""
    parts, orders = [], []
    for kind in KIND_NAMES:
        rows = trace.load(kind)
        part = np.zeros(len(rows), SPOOL_ROW)
        for name in ("step", "subject", "shape", "call", "dtype", "flags", "mode"):
            part[name] = rows[name]
        part["kind"] = KIND[kind]
        for place, name in zip("abc", KINDS[kind], strict=True):
            part[place] = rows[name] if name else 0.0
        parts.append(part)
        orders.append(rows["order"])
    return np.concatenate(parts)[np.argsort(np.concatenate(orders), kind="stable")]


def repeated(rows: np.ndarray, wanted: int) -> RowSource:
    """The steps from FIRST on, again and again, with the step clock running on."""
    start, period = rows[rows["step"] < FIRST], rows[rows["step"] >= FIRST]
    steps = int(period["step"].max()) - FIRST + 1
    rounds = max(1, (wanted - len(start)) // len(period))

    def every() -> Iterator[np.ndarray]:
        random = np.random.default_rng(0)
        yield start
        for number in range(rounds):
            more = period.copy()
            more["step"] += number * steps
            shaken = np.isin(more["kind"], SHAKEN)
            for place in "abc":
                more[place][shaken] *= random.uniform(1 - SHAKE, 1 + SHAKE, int(shaken.sum()))
            yield more

    def blocks(size: int) -> Iterator[np.ndarray]:
        waiting: list[np.ndarray] = []
        for part in every():
            waiting.append(part)
            if sum(map(len, waiting)) >= size:
                joined = np.concatenate(waiting)
                yield joined[:size]
                waiting = [joined[size:]]
        yield np.concatenate(waiting)

    return RowSource(len(start) + rounds * len(period), blocks)


def measured(path: Path) -> tuple[float, float, float, int]:
    """Seconds, CPU seconds, peak MiB and exit code of one `nandoctor diagnose`."""
    before = time.perf_counter()
    child = subprocess.Popen([sys.executable, "-m", "nandoctor", "diagnose", path], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    cpu = usage.ru_utime + usage.ru_stime
    return time.perf_counter() - before, cpu, usage.ru_maxrss / 1024, child.returncode


def main(sizes: list[float]) -> int:
    fits = True
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        small = recorded(folder)
        rows = spool_rows(small)
        for millions in sizes:
            path = folder / f"{millions:g}.parquet"
            source = repeated(rows, round(millions * MILLION))
            write_file(path, source, survey(source), [dict(note) for note in small.notes])
            rounds = [measured(path) for _ in range(ROUNDS)]
            seconds, cpu = min(one[0] for one in rounds), min(one[1] for one in rounds)
            peak, codes = max(one[2] for one in rounds), {one[3] for one in rounds}
            print(
                f"{source.count:>10,} rows, {path.stat().st_size / 2**20:4.0f} MiB: {seconds:5.2f} s "
                f"(CPU {cpu:5.2f} s, {cpu / source.count * 1e9:4.0f} ns a row), peak {peak:4.0f} MiB, "
                f"exit code {', '.join(map(str, codes))}", flush=True,
            )  # fmt: skip
            fits &= codes <= {0, 1} and (millions != 10 or (seconds <= SECONDS and peak <= MEBIBYTES))
            path.unlink()
    return 0 if fits else 1


if __name__ == "__main__":
    sys.exit(main([float(word) for word in sys.argv[1:]] or [1, 3, 10]))
