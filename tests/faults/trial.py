"""One recording to which something happens, and what must be left of it."""

import contextlib
import io
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.parquet as pq

from nandoctor.cli import run
from nandoctor.trace.open import open_trace
from nandoctor.trace.trace import Trace

PATIENCE_S = 240  # a hung run, not a slow one
HOUSE = Path(__file__).parent.parent.parent


@dataclass
class Trial:
    """A folder, a moment drawn by chance, and one `nandoctor record` in it."""

    folder: Path
    chance: random.Random
    process: "subprocess.Popen[bytes] | None" = None
    started: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    def start(
        self, source: str, name: str = "train.py", prefix: tuple[str, ...] = (), env: dict[str, str] | None = None,
        folder: Path | None = None,
    ) -> "subprocess.Popen[bytes]":  # fmt: skip
        folder = folder or self.folder
        (folder / name).write_text(source)
        command = [*prefix, sys.executable, "-m", "nandoctor", "record", "--", sys.executable, name]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HOUSE), **(env or {})}
        with open(self.folder / "stdout", "ab") as out, open(self.folder / "stderr", "ab") as err:
            process = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                                       env=environment, start_new_session=True)  # fmt: skip
        self.process = process
        self.started.append(process)
        return process

    # --- moments -----------------------------------------------------------------------------------------------
    def done(self, folder: Path | None = None) -> int:
        """Steps that the training has completed."""
        try:
            return ((folder or self.folder) / "progress").stat().st_size
        except OSError:
            return 0

    def some_step(self, most: int = 300) -> None:
        """Wait for a step drawn by chance, and a moment within it."""
        wanted = self.chance.randrange(1, most)
        self.wait_until(lambda: self.done() >= wanted)
        time.sleep(self.chance.random() * 0.003)

    def wait_until(self, true: "object") -> None:
        assert callable(true)
        end = time.monotonic() + PATIENCE_S
        while not true():
            assert time.monotonic() < end, f"nothing happened: {self.said()}"
            assert self.process is None or self.process.poll() is None or true(), f"it ended: {self.said()}"
            time.sleep(0.0005)

    def training(self) -> int:
        """Its process id."""
        assert self.process is not None
        pid = self.process.pid
        return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])

    def end(self) -> int:
        """Wait for `nandoctor record`; its exit code, negative where a signal ended it."""
        assert self.process is not None
        return self.process.wait(PATIENCE_S)

    def said(self) -> str:
        path = self.folder / "stderr"
        return path.read_text(errors="replace")[-2000:] if path.exists() else ""

    def clean(self) -> None:
        for process in self.started:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    # --- what is left ------------------------------------------------------------------------------------------
    def survives(
        self, lost: int = 1, done: int | None = None, recorder_gone: bool = False, processes: int = 1
    ) -> Trace:
        """A readable trace of all completed steps but `lost`, perhaps after --recover; no half file anywhere.

        processes: that trained, each of which has one; the first one's is meant.
        """
        done = self.done() if done is None else done
        self.no_half_file()
        for spool in sorted(self.folder.glob("*.spool")):
            code, words = command("record", "--recover", str(spool))
            assert code == 0, f"--recover: {code} {words}"
        self.no_half_file()
        assert not list(self.folder.glob("*.spool")), "a spool is left"
        traces = sorted(self.folder.glob("*.parquet"))
        assert len(traces) == processes, f"{len(traces)} traces: {self.said()}"
        trace = open_trace(traces[-1])  # run.parquet comes after run.2.parquet
        assert trace.steps >= done - lost, f"{done} steps completed, {trace.steps} recorded"
        assert recorder_gone or trace.end, "how the command ended is not told"
        code, words = command("diagnose", str(traces[-1]))
        assert code in (0, 1), f"diagnose: {code} {words}"
        return trace

    def no_half_file(self) -> None:
        for path in self.folder.glob("*.parquet"):
            assert pq.ParquetFile(path).metadata.num_rows > 0, path


def command(*words: str) -> tuple[int, str]:
    """A command of nandoctor, run in this process; its exit code and both its streams."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        code = run(words)
    return code, out.getvalue()


class NotHere(Exception):
    """This case cannot be made on this machine; why."""


@contextlib.contextmanager
def read_only(folder: Path):  # type: ignore[no-untyped-def]
    """By its rights; root, who may write anyway, makes it immutable."""
    mode = folder.stat().st_mode & 0o7777
    root = os.geteuid() == 0
    if root and (not shutil.which("chattr") or subprocess.run(["chattr", "+i", str(folder)]).returncode):
        raise NotHere("root may write everywhere here")
    if not root:
        folder.chmod(0o555)
    try:
        yield
    finally:
        if root:
            subprocess.run(["chattr", "-i", str(folder)], check=True)
        else:
            folder.chmod(mode)


@contextlib.contextmanager
def small_disk(folder: Path, size: str):  # type: ignore[no-untyped-def]
    """A tmpfs of this size, where that may be mounted (root); None elsewhere."""
    folder.mkdir(exist_ok=True)
    mount = shutil.which("mount")
    done = mount and subprocess.run(
        [mount, "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)], capture_output=True
    )
    if not done or done.returncode != 0:
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
