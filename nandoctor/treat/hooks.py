"""Hooks of torch that may change a value: shielded, so that an error of ours leaves the value as it was."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import _C, Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from ..recording.attach import wrap_function
from ..recording.run import Run
from ..recording.tracebacks import OURS


def shielded(run: Run, function: Callable[..., Any], otherwise: Any = None) -> Callable[..., Any]:
    """Never raises; what it does itself is not seen by the probes, nor by autograd."""
    guard = run.recorder.guard

    @functools.wraps(function)
    def safe(*args: Any, **kwargs: Any) -> Any:
        if not guard.on or "treatment" in guard.failed or torch.compiler.is_compiling():
            return otherwise
        before = getattr(guard._inside, "busy", False)
        guard._inside.busy = True
        try:
            with torch.no_grad(), _C.DisableTorchFunction():
                return function(*args, **kwargs)
        except Exception as error:
            guard.fail("treatment", error)
            return otherwise
        finally:
            guard._inside.busy = before

    return safe


def on_inputs(run: Run, change: Callable[..., Tensor | None], with_place: bool = False) -> Callable[[], None]:
    """Every tensor that the outermost module call is given by position passes through; not what the user computed."""

    def before(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if len(run.thread.stack) > 1:
            return None
        layer = run.names.known(module)
        if layer is not None and not layer.model.parameters:
            return None  # a loss
        changed = False
        found: list[Any] = []
        for place, value in enumerate(args):
            new = None
            if isinstance(value, Tensor) and value.grad_fn is None and not value.requires_grad:
                new = change(value, module, str(place)) if with_place else change(value)
            found.append(value if new is None else new)
            changed = changed or new is not None
        return tuple(found) if changed else None

    handle = register_module_forward_pre_hook(shielded(run, before))
    OURS.add(handle.id)
    return handle.remove


def before_clip(run: Run, function: Callable[[], None]) -> Callable[[], None]:
    """Call it before each clip of gradients by torch's functions."""
    wanted = {"on": True}
    safe = shielded(run, function)
    places = [torch.nn.utils, torch.nn.utils.clip_grad]

    def clipping(*_: Any, **__: Any) -> None:
        if wanted["on"]:
            safe()

    for name in ("clip_grad_norm_", "clip_grad_value_"):
        wrap_function(places, name, before=clipping)
    return functools.partial(wanted.update, on=False)
