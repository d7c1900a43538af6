"""One recording from start to end."""

import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from nandoctor.launch import spools
from nandoctor.launch.child import run
from nandoctor.launch.environment import environment
from nandoctor.launch.request import Request, checked
from nandoctor.launch.words import TORCH_SEEN, say, why_nothing, wrote

LOOK_EVERY_S = 1.0  # no training is shorter: importing torch takes as long


def record(request: Request) -> int:
    """Run the command recorded and return its exit code. nandoctor speaks on stderr, after the end."""
    request = checked(request)
    session = os.urandom(16).hex()
    begun_ns = time.time_ns()
    marks = tempfile.mkdtemp(prefix="nandoctor-")
    try:
        with ready_to_finish(os.path.join(marks, TORCH_SEEN)):
            ended = run(request.command, environment(request, session, marks, os.environ))
        ours = spools.of_session(request.output, session)
        closed = [spools.close(spool, found, ended) for spool, found in ours]
        outputs = [one.output for one in closed if one.output is not None]
        trouble = [one.words for one in closed if one.words is not None]
        if not ours and os.path.exists(os.path.join(marks, TORCH_SEEN)):
            outputs = spools.finished_by_others(request.output, session, begun_ns)
        spools.remove_empty(request.output)
        if outputs and not request.quiet:
            say(*wrote(outputs))
        say(*trouble)
        if not outputs and not trouble:
            say(*why_nothing(marks, os.path.dirname(request.output)))
        return ended.exit_code
    finally:
        shutil.rmtree(marks, ignore_errors=True)


@contextmanager
def ready_to_finish(torch_mark: str) -> Iterator[None]:
    """Once torch is seen, load numpy and pyarrow beside the training: its user would wait 0.2 s for them."""
    over = threading.Event()

    def load() -> None:
        if hasattr(signal, "pthread_sigmask"):  # signals must wake the main thread, which waits for the child
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while not over.wait(LOOK_EVERY_S):
            if os.path.exists(torch_mark):
                import nandoctor.trace.parquet
                import nandoctor.trace.recover  # noqa: F401

                return

    loader = threading.Thread(target=load, daemon=True)
    loader.start()
    try:
        yield
    finally:
        over.set()
        loader.join()
