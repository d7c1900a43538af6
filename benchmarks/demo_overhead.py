"""CPU time (user + sys) of the demo training, recorded against plain: interleaved rounds, median ratio.

Two ratios: the training process alone, and all that `nandoctor record` runs (its parent and the writing of
Parquet as well). `make overhead-demo`; the number of rounds is the first argument, 5 without one.
"""

import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from nandoctor.launch.environment import environment
from nandoctor.launch.request import Request

TRAINING = (sys.executable, str(Path(__file__).parent.parent / "demo" / "train_digits.py"))
LIMIT = 1.3  # of the plain run: issue 2
VARIABLES = {**os.environ, "OMP_NUM_THREADS": "1"}  # threads that wait for each other count their waiting as work


def cpu_seconds(command: Sequence[str], variables: Mapping[str, str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, env=variables, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main(rounds: int) -> int:
    with tempfile.TemporaryDirectory() as folder:
        output = os.path.join(folder, "run.parquet")
        whole = (sys.executable, "-m", "nandoctor", "record", "-o", output, "--", *TRAINING)
        plain_s, alone_s, whole_s = [], [], []
        for _ in range(rounds):
            plain_s.append(cpu_seconds(TRAINING, VARIABLES))
            recorded_alone = environment(Request(TRAINING, output), "", folder, VARIABLES)
            alone_s.append(cpu_seconds(TRAINING, recorded_alone))
            whole_s.append(cpu_seconds(whole, VARIABLES))
            print(f"plain {plain_s[-1]:.2f} s, training {alone_s[-1]:.2f} s, whole {whole_s[-1]:.2f} s", flush=True)
        recorded = len(list(Path(folder).glob("run*")))
    if recorded < 2 * rounds:
        print(f"only {recorded} of {2 * rounds} runs were recorded")
        return 1
    alone = statistics.median(recorded / plain for recorded, plain in zip(alone_s, plain_s, strict=True))
    total = statistics.median(recorded / plain for recorded, plain in zip(whole_s, plain_s, strict=True))
    print(f"median of {rounds} rounds: training process {alone:.3f}x, with nandoctor's parent {total:.3f}x")
    return 0 if alone <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 5))
