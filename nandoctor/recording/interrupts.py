"""An exception that the user's signal handler raised while a hook of ours ran is the user's, not a failed probe."""

import signal
from types import CodeType
from typing import Any


def by_signal_handler(error: BaseException) -> bool:
    """Whether a Python signal handler stands among the frames that raised it (signal.alarm and a TimeoutError)."""
    handlers = {code for number in signal.valid_signals() if (code := _code(signal.getsignal(number))) is not None}
    link = error.__traceback__
    while link is not None:
        if link.tb_frame.f_code in handlers:
            return True
        link = link.tb_next
    return False


def _code(handler: Any) -> CodeType | None:
    """Of a function, a method, a functools.partial or an object that is called."""
    handler = getattr(handler, "func", handler)
    handler = getattr(handler, "__func__", handler)
    called = vars(type(handler)).get("__call__")
    found = getattr(handler, "__code__", None) or getattr(called, "__code__", None)
    return found if isinstance(found, CodeType) else None
