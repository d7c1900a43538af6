"""`with nandoctor.record("run.parquet"):` records a training inside a process that runs already, as in a notebook."""

import atexit
import os
import sys
from types import TracebackType
from typing import TYPE_CHECKING

from nandoctor.launch import spools
from nandoctor.launch.child import Ended
from nandoctor.launch.request import DEFAULT_OUTPUT, Request, checked
from nandoctor.launch.secrets import masked
from nandoctor.launch.words import EMPTY_BLOCK, RECORDED_ALREADY, say, wrote_here
from nandoctor.trace.spool import SUFFIX
from nandoctor.version import VERSION

if TYPE_CHECKING:
    from nandoctor.recording.settings import Settings

KERNELS = ("ipykernel_launcher.py", "ipykernel/__main__.py", "colab_kernel_launcher.py")  # argv[0] of a notebook
_open: list["record"] = []  # at most one


class record:  # noqa: N801 - used like a function, as open() is
    """Record what is trained inside the `with` block into a trace; where there is one already, into run.2.parquet ...

    `layers` (a regular expression) and `watch_step` are those of `nandoctor record`. Nothing of nandoctor stays in
    torch after the block. `path` is the trace, once the block has ended; None if nothing trained in it.
    """

    def __init__(
        self, output: str | os.PathLike[str] = DEFAULT_OUTPUT, *, layers: str | None = None,
        watch_step: int | None = None, quiet: bool = False,
    ) -> None:  # fmt: skip
        self.request = Request(("block",), os.fspath(output), layers, watch_step, quiet)
        self.path: str | None = None
        self._block: object | None = None
        self._pid = 0

    def __enter__(self) -> "record":
        """Raises UserError for an output that cannot be written and for options that mean nothing."""
        self.begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, link: TracebackType | None
    ) -> None:
        self.end(error)

    def begin(self) -> None:
        """What `with` does first, for code that has a beginning and an end in two places."""
        request = checked(self.request)
        from nandoctor.recording.block import Block, recorded_already  # torch: only where something is recorded

        if recorded_already() or _open:
            say(RECORDED_ALREADY)
            return
        self.path, self._pid = None, os.getpid()
        self._block = Block(settings_of(request))
        _open.append(self)
        atexit.register(self._process_ends)

    def end(self, error: BaseException | None = None) -> None:
        """What `with` does last. Never raises: the training is over, and its result is the user's."""
        from nandoctor.recording.block import Block

        block, self._block = self._block, None
        if not isinstance(block, Block) or os.getpid() != self._pid:  # a forked child has no part in it
            return
        _open.clear()
        atexit.unregister(self._process_ends)
        output = block.close(error)
        if output is None:
            say(EMPTY_BLOCK)
            return
        closed = spools.close(output + SUFFIX, {"pid": os.getpid()}, Ended(os.getpid(), status_of(error)))
        self.path = closed.output
        if closed.words is not None:
            say(closed.words)
        elif closed.output is None:
            say(EMPTY_BLOCK)
        elif not self.request.quiet:
            say(*wrote_here(closed.output))

    def _process_ends(self) -> None:
        """The end was never reached: a framework that calls no hook of its callbacks after an exception."""
        self.end(getattr(sys, "last_value", None))


def settings_of(request: Request) -> "Settings":
    from nandoctor.recording.settings import Settings

    words = tuple(sys.argv)
    if not words or words[0].replace(os.sep, "/").endswith(KERNELS):
        words = ()  # the kernel's command line says nothing of the training
    return Settings(
        output=request.output,
        session=os.urandom(16).hex(),
        command=tuple(masked(("python", *words))) if words else (),
        layers=request.layers,
        watch_step=request.watch_step,
        nandoctor=VERSION,
    )


def status_of(error: BaseException | None) -> int:
    """As the process would have ended with this exception."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    return int(error is not None)
