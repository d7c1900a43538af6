"""Hooks on saved tensors: unpacking such a tensor runs user code, with activation checkpointing the whole block."""

from typing import Any

from torch.autograd.graph import saved_tensors_hooks

from ..attach import watch_method
from ..autopsy.values import Hooks
from ..run import Run


def install(run: Run) -> None:
    """Only for a torch whose saved tensors do not tell whether they have hooks."""
    if Hooks.told:
        return

    def entered(_: Any) -> None:
        Hooks.used = True

    watch_method(saved_tensors_hooks, "__enter__", run.recorder.guard("saved tensors", entered))
