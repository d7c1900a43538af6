"""Runs a command as if nandoctor were not there: streams, signals and exit status pass through."""

import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType

from nandoctor import errors

FORWARDED = ("SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGQUIT")


@dataclass(frozen=True)
class Ended:
    pid: int
    status: int  # exit code, or the negative number of the signal that killed it

    @property
    def exit_code(self) -> int:
        """As a shell reports it."""
        return self.status if self.status >= 0 else 128 - self.status


def run(command: Sequence[str], environment: Mapping[str, str]) -> Ended:
    """Start the command, wait for its end, and hand on the signals that reach this process meanwhile."""
    child: subprocess.Popen[bytes] | None = None
    early: list[int] = []  # arrived before the child existed

    def forward(number: int, _frame: FrameType | None) -> None:
        if number == getattr(signal, "SIGQUIT", None) and at_the_keyboard():
            return  # Ctrl-\ has reached the child already
        if child is None:
            early.append(number)
        else:
            child.send_signal(number)

    def leave_it_to_the_child(_number: int, _frame: FrameType | None) -> None:
        """Ctrl-C reaches the whole foreground group. A handler, not SIG_IGN: the child would inherit that."""

    _handle(signal.SIGINT, leave_it_to_the_child)
    for name in FORWARDED:
        if hasattr(signal, name):
            _handle(getattr(signal, name), forward)
    try:
        # close_fds: a shell hands on its open descriptors, too (make's job server, <(process substitution))
        child = subprocess.Popen(command, env=environment, close_fds=False)
    except FileNotFoundError:
        raise errors.command_not_found(command[0]) from None
    except OSError as error:
        raise errors.cannot_execute(command[0], error.strerror or str(error)) from None
    for number in early:
        child.send_signal(number)
    return Ended(child.pid, child.wait())


def _handle(number: int, handler: Callable[[int, FrameType | None], None]) -> None:
    if signal.getsignal(number) is not signal.SIG_IGN:  # under nohup the child is to ignore it, too
        signal.signal(number, handler)


def at_the_keyboard() -> bool:
    """Whether this process is in the foreground group of its terminal: Ctrl-\\ then reaches all of it."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)
