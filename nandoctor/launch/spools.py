"""The spools that one `nandoctor record` left beside its output, and how each becomes a trace."""

import contextlib
import json
import os
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nandoctor import errors
from nandoctor.launch.child import Ended
from nandoctor.launch.words import still_recording, unfinished
from nandoctor.trace.spool import SUFFIX, append_note, writer_lives

GRACE_S = 2.0  # a group of processes that was told to end takes a moment; only waited where one still writes
LOOK_AGAIN_S = 0.05


@dataclass(frozen=True)
class Closed:
    output: str | None  # the trace written; None: nothing trained, or words say what stood against it
    words: str | None = None


def of_session(output: str, session: str) -> list[tuple[str, Mapping[str, Any]]]:
    """The spools beside the output with this session in their header, in order of names; with the header."""
    folder = os.path.dirname(output)
    names = [entry.name for entry in os.scandir(folder) if entry.name.endswith(SUFFIX) and entry.is_dir()]
    spools = [os.path.join(folder, name) for name in sorted(names, key=lambda name: (len(name), name))]
    headers = [(spool, header(spool)) for spool in spools]
    return [(spool, found) for spool, found in headers if found.get("session") == session]


def header(spool: str) -> Mapping[str, Any]:
    """The first note of a spool; empty where there is none yet."""
    try:
        with open(os.path.join(spool, "notes.jsonl"), encoding="utf-8", errors="replace") as notes:
            first = json.loads(notes.readline())
    except (OSError, ValueError):
        return {}
    return first if isinstance(first, dict) and first.get("note") == "header" else {}


def close(spool: str, found: Mapping[str, Any], ended: Ended) -> Closed:
    """Add how the command ended and finish the trace."""
    deadline = time.monotonic() + GRACE_S
    while writer_lives(spool):
        if time.monotonic() > deadline:
            return Closed(None, still_recording(spool, found.get("pid")))
        time.sleep(LOOK_AGAIN_S)
    try:
        with contextlib.suppress(FileNotFoundError):  # a `diagnose` in another window has finished it already
            if found.get("pid") == ended.pid:
                append_note(spool, "end", exit_code=ended.status)
            else:  # a shell or launcher stood between: what is known is how that one ended
                append_note(spool, "end", exit_code=ended.status, of="command")
        return Closed(finished(spool))
    except (OSError, errors.UserError) as error:
        reason = error.happened if isinstance(error, errors.UserError) else error.strerror or str(error)
        return Closed(None, unfinished(spool, reason))
    except Exception:  # a bug of nandoctor: shown whole, but the command's exit code is not lost for it
        traceback.print_exc()
        return Closed(None, unfinished(spool, "that is a bug in nandoctor"))


def finished(spool: str) -> str | None:
    """The trace made of a spool; None where nothing trained. Brings pyarrow in."""
    from pathlib import Path

    from nandoctor.trace.recover import finish

    written = finish(Path(spool))
    return None if written is None else str(written)


def recover(spool: str) -> str | None:
    """Finish a spool that a killed `nandoctor record` left behind."""
    spool = os.path.abspath(spool)
    if not spool.endswith(SUFFIX) or not os.path.isdir(spool):
        raise errors.no_spool(spool)
    if writer_lives(spool):
        raise errors.spool_lives(spool, header(spool).get("pid"))
    if not header(spool):
        raise errors.unreadable_spool(spool)
    return finished(spool)
