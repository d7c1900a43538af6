"""Recording a part of a process that runs already: the same probes as by `nandoctor record`, put in and out."""

import gc
import sys
from types import TracebackType

from torch import nn

from .arm import disarm, install, off_in_forks
from .autopsy import variables
from .autopsy.incidents import Alarms
from .detach import detach_all
from .names import Names
from .probes import exit
from .run import Run
from .settings import Settings
from .tracebacks import clean


class Block:
    """One recording; at most one is open in a process."""

    def __init__(self, settings: Settings) -> None:
        self.run: Run
        self.alarms: Alarms
        self.run, self.alarms = install(settings)
        off_in_forks(self.run)
        learn_parents(self.run.names)

    @property
    def output(self) -> str | None:
        """The trace that is being written; None as long as nothing has trained."""
        writer = self.run.recorder.writer
        return writer.folder.removesuffix(".spool") if writer is not None else None

    def close(self, error: BaseException | None) -> str | None:
        """End the recording, and take everything out of torch. Returns the trace whose spool is whole now."""
        recorder = self.run.recorder
        try:
            if error is not None:
                clean_links(error)
            recorder.guard("exit", self._last_look)(error)
            self.alarms.watch.ends()
            self.alarms.lines.stop()
            recorder.close()
        finally:
            recorder.guard.on = False
            detach_all()
            disarm()
        output = self.output
        writer, recorder.writer = recorder.writer, None
        if writer is not None:
            writer.close()
        return output

    def _last_look(self, error: BaseException | None) -> None:
        for loss in variables.left_behind()[:1]:
            self.alarms.non_finite_loss(loss)
        exit.finish(self.run, self.alarms, error)


def clean_links(error: BaseException | None) -> None:
    """Our frames out of the tracebacks of an exception that leaves the block: a notebook prints it in its own way."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        link: TracebackType | None = error.__traceback__
        clean(link)
        error = error.__cause__ or error.__context__


def learn_parents(names: Names) -> None:
    """Modules that were put together before the block began: a part that is called by itself is named by its whole."""
    for thing in gc.get_objects():
        if not issubclass(type(thing), nn.Module):  # not isinstance: a proxy answers it by running code of its own
            continue
        for name, child in list((vars(thing).get("_modules") or {}).items()):
            names._registered(thing, name, child)


def recorded_already() -> bool:
    """Whether `nandoctor record` has armed this process."""
    return "_nandoctor" in sys.modules
