"""torch.compile: a compiled region is one block, and neither a mode nor a frame of ours may change what is compiled."""

import functools
import os
import sys
from types import CodeType
from typing import Any

import torch
from torch import nn

from ..attach import FRAMES, PASSING, watch_lookup, watch_method
from ..autopsy.incidents import Alarms
from ..run import Run

UNSEEN = (
    "torch.compile is in use: source lines are not noted, a compiled region is one block; "
    "nandoctor record --eager runs the same script uncompiled and sees inside"
)


def install(run: Run, alarms: Alarms) -> None:
    if os.environ.get("TORCHDYNAMO_DISABLE") == "1":
        return  # record --eager, or the user's own wish: everything runs as written

    def compiles() -> None:
        if not run.compiles:
            run.compiles = True
            alarms.lines.give_up()
            keep_out({guarded.__code__, *FRAMES}, PASSING)
            run.recorder.unseen(UNSEEN)
            run.hooks.set(True)  # from here on they stay (probes/forward.py)

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
    watch_method(nn.Module, "compile", lambda _: guarded())


def keep_out(frames: set[CodeType], passing: set[CodeType]) -> None:
    """Dynamo looks at every frame that begins while compiled code runs: ours, the hooks, are none of its business.

    Only as frames. Where it traces through a call of ours, that returns at once (guard.py) and leaves nothing behind.
    """
    dynamo: Any = torch._C._dynamo.eval_frame
    if not hasattr(dynamo, "set_code_exec_strategy"):  # before torch 2.7 or so: it compiles an empty graph of them
        return
    action = dynamo._FrameAction
    for code in (*frames, *passing):
        inside = action.SKIP if code in frames else action.DEFAULT
        dynamo.set_code_exec_strategy(code, dynamo._FrameExecStrategy(action.SKIP, inside))


def is_compiled_graph(module: nn.Module) -> bool:
    """What a backend runs in the place of the user's modules: a graph that holds nothing of its own."""
    empty = not module._modules and not module._parameters
    return empty and any(kind.__name__ == "GraphModule" for kind in type(module).__mro__)
