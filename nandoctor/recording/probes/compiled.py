"""torch.compile: a compiled region is one block, and no mode of ours may stand on the stack while Dynamo traces."""

import functools
import sys
from typing import Any

import torch

from ..attach import watch_lookup, watch_method
from ..autopsy.incidents import Alarms
from ..run import Run


def install(run: Run, alarms: Alarms) -> None:
    def compiles() -> None:
        alarms.lines.give_up()
        run.recorder.unseen("torch.compile is in use: source lines are not noted, compiled regions are one block")

    guarded = run.recorder.guard("compile", compiles)
    original = torch.compile

    @functools.wraps(original)
    def compile(*args: Any, **kwargs: Any) -> Any:
        guarded()
        return original(*args, **kwargs)

    def looked_up() -> Any:
        """Lightning looks it up as it is imported, and calls it never: only a call tells."""
        caller = sys._getframe(2).f_globals.get("__name__", "")
        return None if caller.startswith("torch.") else compile  # torch looks it up by itself, too

    watch_lookup(torch, ("compile",), looked_up)
    watch_method(torch.nn.Module, "compile", lambda _: guarded())
