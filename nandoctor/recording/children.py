"""Processes that a recorded one makes: a forked one that trains gets a trace of its own, a DataLoader's worker none."""

import multiprocessing.util
import os
import sys
from collections.abc import Callable
from types import FrameType

from torch.utils.data import dataloader

from .forked.walls import fork
from .run import Run


def install(run: Run, ends: Callable[[BaseException | None], None]) -> None:
    """`ends(error)`: such a process ends, by an error if there is one; atexit is not run where it was forked."""
    os.register_at_fork(after_in_child=lambda: forked(run))

    def end() -> None:
        if multiprocessing.process.parent_process() is not None:
            ends(cause_of_end())

    def told_at_the_end(_: Run) -> None:
        multiprocessing.util.Finalize(None, end, exitpriority=0)  # in a process of multiprocessing: before it leaves

    multiprocessing.util.register_after_fork(run, told_at_the_end)
    told_at_the_end(run)  # torch was imported by the very function that such a process runs


def forked(run: Run) -> None:
    """In the copy. Our own (probes/overshoot.py) and workers that draw batches are no trainings."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code is fork.__code__ or frame.f_code.co_filename == dataloader.__file__:
            run.recorder.guard.on = False
            return
        frame = frame.f_back
    if run.recorder.guard.on:
        run.recorder.begins_anew()


def cause_of_end() -> BaseException | None:
    """The exception on its way out of such a process. torch's spawn turns it into an exit code."""
    error = sys.exc_info()[1]
    if isinstance(error, SystemExit):
        error = error.__context__
    return error
