"""torch.compile: a compiled region is one block, and no mode of ours may stand on the stack while Dynamo traces."""

import sys

import torch

from ..attach import watch_lookup, watch_method
from ..autopsy.incidents import Alarms
from ..run import Run


def install(run: Run, alarms: Alarms) -> None:
    def compiles() -> None:
        alarms.lines.give_up()
        run.compiled = True
        run.recorder.unseen("torch.compile is in use: source lines are not noted, compiled regions are one block")

    guarded = run.recorder.guard("compile", compiles)

    def looked_up() -> None:
        caller = sys._getframe(2).f_globals.get("__name__", "")
        if not caller.startswith("torch."):  # torch looks it up by itself, too
            guarded()

    watch_lookup(torch, ("compile",), looked_up)
    watch_method(torch.nn.Module, "compile", lambda _: guarded())
