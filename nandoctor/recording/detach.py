"""Taking a recording out of a process that goes on: every hook, descriptor and wrapper of ours is removed.

Hooks are found in torch's registries by the file of their code, not by their handles: whoever put them there, and
when, they are gone afterwards.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from torch.nn.modules import module as modules
from torch.optim import optimizer as optimizers

from .attach import HERE, UNDO
from .tracebacks import OURS

_REGISTRIES = (
    "_global_forward_hooks", "_global_forward_pre_hooks", "_global_backward_hooks", "_global_backward_pre_hooks",
    "_global_module_registration_hooks", "_global_parameter_registration_hooks", "_global_buffer_registration_hooks",
    "_global_optimizer_pre_hooks", "_global_optimizer_post_hooks",
)  # fmt: skip
_MARKS = ("_global_forward_hooks_always_called", "_global_forward_hooks_with_kwargs")  # of hooks, under the same ids


def detach_all() -> None:
    """Torch as it was before; what the program itself has changed meanwhile stays."""
    for module in (modules, optimizers):
        for name in _REGISTRIES:
            registry: dict[int, Any] = getattr(module, name, {})
            for key in [key for key, hook in registry.items() if is_ours(hook)]:
                del registry[key]
                for mark in _MARKS:
                    getattr(module, mark, {}).pop(key, None)
    OURS.clear()
    while UNDO:
        UNDO.pop()()


def is_ours(hook: Callable[..., Any]) -> bool:
    while isinstance(hook, partial):
        hook = hook.func
    code = getattr(getattr(hook, "__func__", hook), "__code__", None)
    return code is not None and code.co_filename.startswith(HERE)
