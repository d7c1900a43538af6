"""Runs programs in children forked from a process that has torch loaded: importing it would take as long as they do.

A job is a line of JSON on stdin, its answer a line on stdout. A plain job runs a script under watched.py; a recorded
one arms nandoctor as its sitecustomize does in a training process (recording/inject), then runs the script. torch
itself is untouched in the parent: both kinds of hooks are put in by the child.
"""

import atexit
import contextlib
import json
import os
import queue
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CLINIC = Path(__file__).parent
TIMED_OUT = 124


@dataclass
class Servers:
    """A few of these processes; `run` waits for a free one."""

    count: int
    free: "queue.Queue[subprocess.Popen[str]]" = field(default_factory=queue.Queue)
    started: int = 0

    def run(self, **job: Any) -> int:
        """The exit code of one program; TIMED_OUT if it took longer than job["timeout"] seconds."""
        server = self._take()
        try:
            assert server.stdin is not None and server.stdout is not None
            server.stdin.write(json.dumps(job) + "\n")
            server.stdin.flush()
            return int(json.loads(server.stdout.readline())["code"])
        finally:
            self.free.put(server)

    def _take(self) -> "subprocess.Popen[str]":
        if self.free.empty() and self.started < self.count:
            self.started += 1
            return subprocess.Popen(
                [sys.executable, "-m", "clinic.forkserver"], cwd=CLINIC.parent, text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"}, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            )  # fmt: skip
        return self.free.get()


def main() -> None:
    preload()
    for line in sys.stdin:
        code = forked(json.loads(line))
        print(json.dumps({"code": code}), flush=True)


def preload() -> None:
    """Everything that the programs import and that takes long."""
    import sklearn.datasets
    import sklearn.model_selection
    import sklearn.preprocessing  # noqa: F401
    import torch
    import torch.utils.data  # noqa: F401

    torch.set_num_threads(1)


def forked(job: dict[str, Any]) -> int:
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        code = 1
        try:
            code = _child(job)
        finally:
            os._exit(code)
    deadline = time.monotonic() + job["timeout"]
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return TIMED_OUT
        time.sleep(0.01)


def _child(job: dict[str, Any]) -> int:
    script = str(job["script"])
    with _outputs(job):
        os.chdir(os.path.dirname(script))
        os.environ.update(job.get("environment", {}))
        for name in [name for name in sys.modules if name.partition(".")[0] == "clinic"]:
            del sys.modules[name]
        sys.path[0] = os.path.dirname(script)
        if job["mode"] == "recorded":
            _arm(job["home"])
            sys.argv, program = [script], script
        else:
            if job["mode"] == "treated":
                _arm(job["home"])
            program = str(CLINIC / ("watched.py" if job["mode"] == "plain" else "treated.py"))
            sys.argv = [program, script]
        try:
            runpy.run_path(program, run_name="__main__")
            return 0
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else int(bool(end.code))
        except BaseException:  # as the interpreter would: the recorder reads sys.last_value at exit
            sys.last_type, sys.last_value, sys.last_traceback = sys.exc_info()
            sys.excepthook(*sys.exc_info())
            return 1
        finally:
            atexit._run_exitfuncs()


def _arm(home: str) -> None:
    package = type(sys)("_nandoctor")
    package.__path__ = [home]
    sys.modules["_nandoctor"] = package
    __import__("_nandoctor.recording.arm", fromlist=["arm"]).arm()


@contextlib.contextmanager
def _outputs(job: dict[str, Any]) -> Iterator[None]:
    """stdin from nowhere, stdout and stderr to files."""
    for number, path in ((0, os.devnull), (1, job["stdout"]), (2, job["stderr"])):
        opened = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        os.dup2(opened, number)
    yield
    sys.stdout.flush()
    sys.stderr.flush()


if __name__ == "__main__":
    main()
