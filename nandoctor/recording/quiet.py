"""Warnings that torch gives while an alarm repeats an operation are ours to hear, not the user's."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def quiet() -> Iterator[None]:
    """Swallow warnings. Not warnings.catch_warnings: that forgets which of the user's were shown already."""

    def swallow(*_: Any, **__: Any) -> None:
        return None

    shown, warnings.showwarning = warnings.showwarning, swallow
    try:
        yield
    finally:
        warnings.showwarning = shown
