"""How the run ended, where an exception or a signal ended it."""

from dataclasses import dataclass

from ..trace.trace import Trace
from . import fields


@dataclass(frozen=True)
class Crash:
    """An uncaught exception."""

    type: str
    message: str
    file: str | None
    line: int | None
    text: str | None
    layer: str | None


INSTALLED = ("site-packages", "dist-packages", "<frozen", "<string>")


def gather(trace: Trace) -> Crash | None:
    notes = trace.notes_of("exception")
    if not notes:
        return None
    note = notes[-1]
    file, line, text = _user_frame(fields.items(note, "frames"))
    return Crash(
        type=fields.words(note, "type") or "exception",
        message=fields.words(note, "message") or "",
        file=file,
        line=line,
        text=text,
        layer=fields.words(note, "layer"),
    )


def _user_frame(frames: list[object]) -> tuple[str | None, int | None, str | None]:
    """The innermost frame outside installed packages."""
    for frame in reversed(frames):
        if not isinstance(frame, (list, tuple)) or len(frame) < 4 or not isinstance(frame[0], str):
            continue
        if any(part in frame[0] for part in INSTALLED):
            continue
        line = frame[1] if isinstance(frame[1], int) and not isinstance(frame[1], bool) else None
        return frame[0], line, frame[3] if isinstance(frame[3], str) else None
    return None, None, None
