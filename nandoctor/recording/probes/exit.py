"""The end of the process: the exception that ended it, a loss left in a variable, the last rows."""

import atexit
import linecache
import sys
import traceback
from types import TracebackType

from .. import children
from ..autopsy import doubts, variables
from ..autopsy.incidents import Alarms
from ..frames import relative
from ..run import Run

LAST_LINES = 12  # of the traceback, kept as text
MAX_MESSAGE = 2_000  # characters


def install(run: Run, alarms: Alarms) -> None:
    def ends(error: BaseException | None = None) -> None:
        """Python keeps the exception that it printed in sys.last_value: no excepthook of ours is needed."""
        finish(run, alarms, error if error is not None else getattr(sys, "last_value", None))
        run.recorder.close()

    guarded = run.recorder.guard("exit", ends)
    atexit.register(guarded)
    children.install(run, guarded)


def finish(run: Run, alarms: Alarms, error: BaseException | None) -> None:
    """`error`: what ended the training."""
    if run.recorder.writer is not None or error is not None:
        for loss in variables.at_exit(error.__traceback__ if error is not None else None)[:1]:
            alarms.non_finite_loss(loss)
    doubts.at_the_end(alarms)
    if run.recorder.writer is not None:
        alarms.weights_at_the_end()
    if error is None:
        return
    if run.recorder.writer is not None or run.calls:
        for reference in run.bad_outputs[:1]:
            if (output := reference()) is not None:
                run.recorder.claim()
                alarms.ended_by(output)
    if not alarms.filed and (run.recorder.writer is not None or run.calls):
        doubts.doubt(alarms, variables.refused(error.__traceback__))
        doubts.at_the_end(alarms)
    recorder = run.recorder
    if recorder.writer is None and not run.calls:
        return  # nothing was trained: the parent says so
    recorder.claim()
    lines = "".join(traceback.format_exception(type(error), error, error.__traceback__)).splitlines()
    recorder.note(
        "exception",
        type=type(error).__name__,
        message=str(error)[:MAX_MESSAGE],
        frames=frames_of(error.__traceback__),
        last=lines[-LAST_LINES:],
        step=recorder.step,
        batch=recorder.batch,
    )


def frames_of(link: TracebackType | None) -> list[list[object]]:
    """[file, line, function, text], outermost first; of a deep recursion the last 50."""
    found: list[list[object]] = []
    while link is not None:
        code = link.tb_frame.f_code
        text = linecache.getline(code.co_filename, link.tb_lineno).strip()
        found.append([relative(code.co_filename), link.tb_lineno, code.co_name, text])
        link = link.tb_next
    return found[-50:]
