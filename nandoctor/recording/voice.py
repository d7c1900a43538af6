"""One line of nandoctor on the training's stderr. Never on its stdout, never an error."""

import contextlib
import sys


def say(text: str) -> None:
    """A stderr that is closed is None in Python: print would then take stdout."""
    stream = sys.stderr
    if stream is not None:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.write(f"nandoctor: {' '.join(text.split())}\n")
            stream.flush()
