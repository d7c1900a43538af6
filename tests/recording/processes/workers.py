"""A driver that trains nothing itself: it starts workers by fork, spawn and forkserver, and hands tasks to long-lived
ones, as Ray does."""

import multiprocessing
import subprocess
import sys

import torch  # noqa: F401  (as launchers do)
from train import train

WORKER = """
import sys
for line in sys.stdin:
    from train import train
    train(float(line))
    print("done", flush=True)
"""

if __name__ == "__main__":
    for method in ("fork", "spawn", "forkserver"):
        worker = multiprocessing.get_context(method).Process(target=train, args=(0.01, method != "forkserver"))
        worker.start()
        worker.join()
        print(method, worker.exitcode, flush=True)
    pipe = subprocess.PIPE
    trains, idles = (subprocess.Popen([sys.executable, "-c", WORKER], stdin=pipe, stdout=pipe) for _ in range(2))
    trains.stdin.write(b"0.02\n")
    trains.stdin.flush()
    print("task", trains.stdout.readline())
    trains.kill()  # such workers are never asked to leave
    idles.kill()
    trains.wait(), idles.wait()
