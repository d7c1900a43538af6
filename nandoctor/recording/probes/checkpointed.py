"""Activation checkpointing: what happens inside a block leaves no graph that may be read, so its outputs are looked at.

Reading a saved tensor there would run the block again (autopsy/values.py leaves them packed).
"""

from typing import Any

import torch
from torch import nn

from ..autopsy.births import leaf_birth
from ..names import Layer
from ..nested import tensors
from ..run import Run
from ..stats import is_bad, measurable

MAX_BIRTHS = 16
_top_hooks = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", None)  # since torch 2.3 or so


def checkpointed(run: Run, graph: bool) -> bool:
    """Whether the call that ends lies in a checkpointed block: without gradients inside a call that has them, or with
    hooks on what autograd saves."""
    if not graph:
        return run.thread.graph
    return _top_hooks is not None and _top_hooks(False) is not None


def block_birth(
    run: Run, module: nn.Module, layer: Layer, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any,
    start: int, end: int,
) -> None:  # fmt: skip
    """A module made of others returned: were its inputs finite and its output not?"""
    for _, tensor in tensors(output):
        last, bad = run.last_output
        if not measurable(tensor) or tensor.device.type != "cpu" or (last is not None and last() is tensor):
            continue
        if is_bad(tensor) and len(run.births) < MAX_BIRTHS:
            run.births.append(leaf_birth(module, layer, args, kwargs, tensor, start, end))
