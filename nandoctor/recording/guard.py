"""A probe may fail, the training may not: the first error switches that probe off and is noted in the trace."""

import threading
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import _C
from torch.compiler import is_compiling

from .interrupts import by_signal_handler

MAX_ERROR = 200  # characters of an error's first line; torch's can be pages


class Guard:
    """Hands out hooks that never raise, never run in a forked child, and never run while torch compiles."""

    def __init__(self, note: Callable[[str, str], None]) -> None:
        self.on = True  # off in forked children and after the recording was closed
        self.failed: set[str] = set()
        self._inside = threading.local()  # our own torch calls must not be taken for the user's
        self._note = note
        self.spent = 0.0  # seconds in our hooks

    def __call__(self, probe: str, hook: Callable[..., None]) -> Callable[..., None]:
        """`hook` as a hook of torch: returns None whatever happens, so that it never replaces a value."""

        def safe(*args: Any, **kwargs: Any) -> None:
            if is_compiling() or not self.on or probe in self.failed:
                return
            if _C._functorch.maybe_current_level() is not None:  # inside vmap or grad: tensors are wrappers
                return
            if _C._get_tracing_state() is not None:  # torch.jit.trace would trace our reading too
                return
            if getattr(self._inside, "busy", False):
                return
            self._inside.busy = True
            began = time.perf_counter()
            try:
                # our own reading must not be seen by the user's modes nor by ours
                if torch._C._len_torch_dispatch_stack() > 0:
                    with _C.DisableTorchFunction(), _C._DisableTorchDispatch():
                        hook(*args, **kwargs)
                else:
                    with _C.DisableTorchFunction():
                        hook(*args, **kwargs)
            except Exception as error:
                if by_signal_handler(error):
                    raise
                self.fail(probe, error)
            finally:
                self._inside.busy = False
                self.spent += time.perf_counter() - began

        return safe

    def fail(self, probe: str, error: Exception) -> None:
        self.failed.add(probe)
        try:
            first = str(error).partition("\n")[0]
            self._note(probe, f"{type(error).__name__}: {first[:MAX_ERROR]}")
        except Exception:
            self.on = False  # the trace cannot be written at all
