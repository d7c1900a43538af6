"""Putting modes of ours on torch's stack of modes, below the user's, and taking them off again."""

import threading
from typing import Any

import torch
from torch import _C


def in_main_thread() -> bool:
    """The stack of modes is each thread's own, and a thread that ends with a mode on it takes the process down."""
    return threading.current_thread() is threading.main_thread()


def push(mode: Any) -> None:
    """Below the user's own modes, so that leaving one of theirs never takes off ours (as torch.set_default_device)."""
    above = []
    while torch._C._len_torch_function_stack() > 0:
        top = _C._pop_torch_function_stack()
        if _is_default_device(top) and torch._C._len_torch_function_stack() == 0:
            _C._push_on_torch_function_stack(top)
            break
        above.append(top)
    _C._push_on_torch_function_stack(mode)
    for other in reversed(above):
        _C._push_on_torch_function_stack(other)


def remove(mode: Any) -> None:
    """Take one mode off the stack, wherever it stands."""
    above = []
    while torch._C._len_torch_function_stack() > 0:
        top = _C._pop_torch_function_stack()
        if top is mode:
            break
        above.append(top)
    for other in reversed(above):
        _C._push_on_torch_function_stack(other)


def _is_default_device(mode: Any) -> bool:
    return type(mode).__name__ == "DeviceContext"
