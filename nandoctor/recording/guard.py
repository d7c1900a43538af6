"""A probe may fail, the training may not: the first error switches that probe off and is noted in the trace."""

import threading
import time
from collections.abc import Callable
from typing import Any

from torch import _C
from torch.compiler import is_compiling

from .interrupts import by_signal_handler

MAX_ERROR = 200  # characters of an error's first line; torch's can be pages


in_transform, tracing = _C._functorch.maybe_current_level, _C._get_tracing_state
dispatch_modes = _C._len_torch_dispatch_stack


class Inside(threading.local):
    busy = False  # in this thread


class Guard:
    """Hands out hooks that never raise, never run in a forked child, and never run while torch compiles."""

    def __init__(self, note: Callable[[str, str], None]) -> None:
        self.on = True  # off in forked children and after the recording was closed
        self.failed: set[str] = set()
        self._inside = Inside()  # our own torch calls must not be taken for the user's
        self._note = note
        self.spent = 0.0  # seconds in our hooks

    def __call__(
        self, probe: str, hook: Callable[..., None], instead: Callable[..., None] | None = None
    ) -> Callable[..., None]:
        """`hook` as a hook of torch: returns None whatever happens, so that it never replaces a value.

        instead: what runs in its place once the probe has failed, at that call already.
        """
        inside, clock, failed = self._inside, time.perf_counter, self.failed

        def safe(*args: Any, **kwargs: Any) -> None:
            if is_compiling() or not self.on:
                return
            if probe in failed:
                if instead is not None:
                    replaced(*args, **kwargs)
                return
            if in_transform() is not None:  # inside vmap or grad: tensors are wrappers
                return
            if tracing() is not None:  # torch.jit.trace would trace our reading too
                return
            if inside.busy:
                return
            inside.busy = True
            began = clock()
            try:
                # our own reading must not be seen by the user's modes nor by ours
                if dispatch_modes() > 0:
                    with _C.DisableTorchFunction(), _C._DisableTorchDispatch():
                        hook(*args, **kwargs)
                else:
                    with _C.DisableTorchFunction():
                        hook(*args, **kwargs)
            except Exception as error:
                if by_signal_handler(error):
                    raise
                self.fail(probe, error)
                if instead is not None:
                    replaced(*args, **kwargs)
            finally:
                inside.busy = False
                self.spent += clock() - began

        def replaced(*args: Any, **kwargs: Any) -> None:
            assert instead is not None
            try:
                instead(*args, **kwargs)
            except Exception:
                self.on = False

        return safe

    def fail(self, probe: str, error: Exception) -> None:
        self.failed.add(probe)
        try:
            first = str(error).partition("\n")[0]
            self._note(probe, f"{type(error).__name__}: {first[:MAX_ERROR]}")
        except Exception:
            self.on = False  # the trace cannot be written at all
