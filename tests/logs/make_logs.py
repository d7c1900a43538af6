"""Makes the logs in sample_logs/ by small real runs: `python -m tests.logs.make_logs [KIND ...]`.

Needs what prints them: lightning, transformers with accelerate, tensorboard, tqdm, scikit-learn. None of it is needed
by nandoctor or by its tests; the files lie in the repository.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "sample_logs"
PROGRAMS = Path(__file__).parent / "programs"
# kind -> program, what of it is kept ("" = what it prints), file name
KINDS = {
    "text": ("loop.py", "", "text-{}.log"),
    "chinese": ("ladder.py", "", "chinese-{}.log"),
    "tqdm": ("bar.py", "", "tqdm-{}.log"),
    "history": ("loop.py", "training_history.csv", "training_history-{}.csv"),
    "lightning": ("lightning_run.py", "", "lightning-{}.log"),
    "metrics": ("lightning_run.py", "metrics.csv", "metrics-{}.csv"),
    "trainer": ("trainer_run.py", "", "trainer-{}.log"),
    "trainer_state": ("trainer_run.py", "trainer_state.json", "trainer_state-{}.json"),
    "events": ("events_run.py", "events.out.", "events-{}.tfevents"),
}
LARGEST = 40 * 1024  # bytes


def main(wanted: list[str]) -> int:
    for kind, (program, kept, name) in KINDS.items():
        for state in ("sick", "stuck", "healthy") if kind == "trainer_state" else ("sick", "healthy"):
            if wanted and kind not in wanted:
                continue
            with tempfile.TemporaryDirectory() as folder:
                environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "100", "TQDM_MININTERVAL": "0"}
                done = subprocess.run(
                    [sys.executable, "-W", "ignore", str(PROGRAMS / program), state], cwd=folder, env=environment,
                    stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                )  # fmt: skip
                found = next(Path(folder).rglob(f"*{kept}*"), None) if kept else None
                data = done.stdout if not kept else found.read_bytes() if found else b""
            if not 0 < len(data) <= LARGEST:
                print(f"{kind} {state}: {len(data)} bytes\n{done.stdout[-2000:].decode()}", file=sys.stderr)
                return 1
            (FOLDER / name.format(state)).write_bytes(data)
            print(f"{name.format(state)} {len(data)} bytes, exit code {done.returncode}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
