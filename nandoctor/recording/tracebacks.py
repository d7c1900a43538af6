"""An uncaught exception is printed as if nobody had recorded: without our frames, and along torch's way without hooks.

An audit hook sees the exception just before sys.excepthook does, whoever has set it. Only links between frames are
changed; the exception itself is the user's.
"""

import dis
import sys
from types import CodeType, TracebackType
from typing import Any

import torch
from torch.nn.modules import module as modules

from .attach import FRAMES, HERE, OUR_CALL, UNDO

OURS: set[int] = set()  # ids of our handles in torch's global hook registries
_DISPATCH = torch.overrides.handle_torch_function.__code__
_MODULE_FILE = modules.__file__
_REGISTRIES = (
    modules._global_forward_hooks, modules._global_forward_pre_hooks,
    modules._global_backward_hooks, modules._global_backward_pre_hooks,
)  # fmt: skip
_OWN_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def clean_uncaught() -> None:
    """Install the audit hook; it stays for the life of the process, as audit hooks do."""

    def audit(event: str, args: tuple[Any, ...]) -> None:
        if event == "sys.excepthook":
            error, seen = args[2], set()
            while error is not None and id(error) not in seen:
                seen.add(id(error))
                try:
                    clean(error.__traceback__)
                except Exception:
                    return  # then it is printed as it is
                error = error.__cause__ or error.__context__

    FRAMES.add(audit.__code__)
    sys.addaudithook(audit)


def hide_hooks() -> None:
    """torch.compile warns of global hooks and counts on the user's having set them: it need not know of ours."""
    original = getattr(modules, "_has_any_global_hook", None)
    if original is None:
        return

    def others() -> bool:
        return any(key not in OURS for registry in _REGISTRIES for key in registry)

    modules._has_any_global_hook = others
    UNDO.append(lambda: setattr(modules, "_has_any_global_hook", original))


def clean(link: TracebackType | None) -> None:
    """Relink a traceback in place."""
    while link is not None:
        following = link.tb_next
        while following is not None and (_ours(following) or _dispatched_by_us(following)):
            following = following.tb_next
        if following is not None and _detour(following):
            following = _straight(following) or following
        if following is not link.tb_next:
            link.tb_next = following
        link = following


def _ours(link: TracebackType) -> bool:
    code = link.tb_frame.f_code
    return code.co_filename.startswith(HERE) or code.co_name == OUR_CALL


def _dispatched_by_us(link: TracebackType) -> bool:
    """A Python function of torch that handed its call to our function mode, or torch's dispatch between the two."""
    for _ in range(2):
        following = link.tb_next
        if following is None:
            return False
        if link.tb_frame.f_code is _DISPATCH:
            return _ours(following)
        link = following
    return False


def _detour(link: TracebackType) -> bool:
    """Module._call_impl goes another way as soon as there is any hook: are all of them ours?"""
    code = link.tb_frame.f_code
    if code.co_name != "_call_impl" or code.co_filename != _MODULE_FILE or link.tb_next is None:
        return False
    called = link.tb_frame.f_locals.get("self")
    if any(getattr(called, name, None) for name in _OWN_HOOKS):
        return False
    return all(key in OURS for registry in _REGISTRIES for key in registry)


def _straight(link: TracebackType) -> TracebackType | None:
    """The same frame at the line where it calls the forward itself, without the inner function of newer versions."""
    found, following = _direct_call(link.tb_frame.f_code), link.tb_next
    if following is not None and following.tb_frame.f_code.co_name == "inner":
        if following.tb_frame.f_code.co_filename == _MODULE_FILE:
            following = following.tb_next
    if found is None or following is None:
        return None
    lasti, line = found
    return TracebackType(following, link.tb_frame, lasti, line)


def _direct_call(code: CodeType) -> tuple[int, int] | None:
    """Offset and line of `return forward_call(*args, **kwargs)`, its first call of that name."""
    loaded = False
    for instruction in dis.get_instructions(code):
        if instruction.argval == "forward_call" and instruction.opname.startswith("LOAD"):
            loaded = True
        elif loaded and instruction.opname.startswith("CALL"):
            lines = [line for start, stop, line in code.co_lines() if start <= instruction.offset < stop and line]
            return (instruction.offset, lines[0]) if lines else None
    return None
