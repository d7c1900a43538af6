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
    """Every tensor that the outermost module call is given passes through; not what the user computed."""

    def changed_of(value: Any, module: nn.Module, place: str) -> Any:
        if not isinstance(value, Tensor) or value.grad_fn is not None or value.requires_grad:
            return None
        return change(value, module, place) if with_place else change(value)

    def before(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if len(run.thread.stack) > 1:
            return None
        layer = run.names.known(module)
        if layer is not None and not layer.model.parameters:
            return None  # a loss
        new = [changed_of(value, module, str(place)) for place, value in enumerate(args)]
        if all(value is None for value in new):
            return None
        return tuple(old if value is None else value for old, value in zip(args, new, strict=True))

    def named(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if len(run.thread.stack) > 1:
            return None
        new = {name: found for name, value in kwargs.items() if (found := changed_of(value, module, name)) is not None}
        return (args, {**kwargs, **new}) if new else None

    handles = [register_module_forward_pre_hook(shielded(run, before))]
    OURS.add(handles[0].id)
    for model in run.names.models:  # a hook on all modules is not told what is given by keyword
        top = model.ref()
        if top is not None and model.parameters:
            handles.append(top.register_forward_pre_hook(shielded(run, named), with_kwargs=True))
            OURS.add(handles[-1].id)

    def remove() -> None:
        for handle in handles:
            handle.remove()

    return remove


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
