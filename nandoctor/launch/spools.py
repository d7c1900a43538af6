"""The spools that one `nandoctor record` left beside its output, and how each becomes a trace."""

import contextlib
import json
import os
import re
import shutil
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nandoctor import errors
from nandoctor.launch.child import Ended
from nandoctor.launch.words import still_recording, unfinished
from nandoctor.trace.spool import MARK, SUFFIX, append_note, writer_lives

UNFINISHED = "unfinished.parquet"  # as in trace/recover.py, whose import would load more than the name
GRACE_S = 2.0  # a group of processes that was told to end takes a moment; only waited where one still writes
LOOK_AGAIN_S = 0.05


@dataclass(frozen=True)
class Closed:
    output: str | None  # the trace written; None: nothing trained, or words say what stood against it
    words: str | None = None


def of_session(output: str, session: str) -> list[tuple[str, Mapping[str, Any]]]:
    """The spools beside the output, and in folders of ranks there, with this session in their header, in order of
    names; with the header.
    """
    folder = os.path.dirname(output)
    spools = [spool for place in [folder, *_rank_folders(output)] for spool in _in_order(place, SUFFIX)]
    headers = [(spool, header(spool)) for spool in spools]
    return [(spool, found) for spool, found in headers if found.get("session") == session]


def _rank_folders(output: str) -> list[str]:
    """run.parquet, run.2.parquet, ... that are folders of ranks."""
    folder, name = os.path.split(output)
    stem, ending = os.path.splitext(name)
    ours = re.compile(rf"{re.escape(stem)}(?:\.\d+)?{re.escape(ending)}")
    found = [path for path in _in_order(folder, ending) if ours.fullmatch(os.path.basename(path))]
    return [path for path in found if os.path.isfile(os.path.join(path, MARK))]


def _in_order(folder: str, ending: str) -> list[str]:
    """Folders in it whose names end so; run.2 before run.10."""
    try:
        names = [entry.name for entry in os.scandir(folder) if entry.name.endswith(ending) and entry.is_dir()]
    except OSError:  # removed while the command ran
        return []
    return [os.path.join(folder, name) for name in sorted(names, key=lambda name: (len(name), name))]


def remove_empty(output: str) -> None:
    """Folders of ranks in which nothing trained in the end."""
    for folder in _rank_folders(output):
        if os.listdir(folder) == [MARK]:
            shutil.rmtree(folder, ignore_errors=True)


def header(spool: str) -> Mapping[str, Any]:
    """The first note of a spool; empty where there is none yet."""
    try:
        with open(os.path.join(spool, "notes.jsonl"), encoding="utf-8", errors="replace") as notes:
            first = json.loads(notes.readline())
    except (OSError, ValueError):
        return {}
    return first if isinstance(first, dict) and first.get("note") == "header" else {}


def close(spool: str, found: Mapping[str, Any], ended: Ended) -> Closed:
    """Add how the command ended and finish the trace. A `diagnose` in another window may be faster."""
    deadline = time.monotonic() + GRACE_S
    while writer_lives(spool):
        if time.monotonic() > deadline and not _is_being_finished(spool):
            return Closed(None, still_recording(spool, found.get("pid")))
        time.sleep(LOOK_AGAIN_S)
    try:
        with contextlib.suppress(FileNotFoundError):
            # a shell or launcher may stand between: then what is known is how that one ended
            own = {} if found.get("pid") == ended.pid else {"of": "command"}
            if os.path.isfile(os.path.join(spool, "notes.jsonl")):  # appending must not make it anew
                append_note(spool, "end", exit_code=ended.status, **own)
        return Closed(finished(spool) or _finished_elsewhere(spool))
    except (OSError, errors.UserError) as error:
        while _is_being_finished(spool):
            time.sleep(LOOK_AGAIN_S)
        if stands := _finished_elsewhere(spool):
            return Closed(stands)
        reason = error.happened if isinstance(error, errors.UserError) else error.strerror or str(error)
        return Closed(None, unfinished(spool, reason))
    except Exception:  # a bug of nandoctor: shown whole, but the command's exit code is not lost for it
        traceback.print_exc()
        return Closed(None, unfinished(spool, "that is a bug in nandoctor"))


def _is_being_finished(spool: str) -> bool:
    """Whether another process holds the spool to make the trace of it."""
    return os.path.exists(os.path.join(spool, UNFINISHED)) and writer_lives(spool)


def _finished_elsewhere(spool: str) -> str | None:
    """The trace that another process made of a spool, whose rows it then removed."""
    output = spool.removesuffix(SUFFIX)
    if not os.path.isfile(output) or os.path.exists(os.path.join(spool, "rows.bin")):
        return None
    shutil.rmtree(spool, ignore_errors=True)  # at most our own note is in it
    return output


def finished_by_others(output: str, session: str, since_ns: int) -> list[str]:
    """Traces of this session that a `diagnose` made of its spools before the command ended."""
    folder, name = os.path.split(output)
    stem, ending = os.path.splitext(name)
    ours = re.compile(rf"{re.escape(stem)}(?:\.\d+)?{re.escape(ending)}")
    try:
        files = [entry for entry in os.scandir(folder) if ours.fullmatch(entry.name) and entry.is_file()]
        for ranks in _rank_folders(output):
            files += [entry for entry in os.scandir(ranks) if entry.name != MARK and entry.is_file()]
        paths = [entry.path for entry in files if entry.stat().st_mtime_ns >= since_ns]
    except OSError:  # removed while the command ran
        return []
    return [path for path in sorted(paths, key=lambda path: (len(path), path)) if _is_of(path, session)]


def _is_of(path: str, session: str) -> bool:
    from pathlib import Path

    from nandoctor.trace.open import open_trace

    try:
        return open_trace(Path(path)).header.get("session") == session
    except (OSError, errors.UserError):  # another program's
        return False


def finished(spool: str) -> str | None:
    """The trace made of a spool; None where nothing trained. Brings pyarrow in."""
    from pathlib import Path

    from nandoctor.trace.recover import finish

    written = finish(Path(spool))
    return None if written is None else str(written)


def recover(spool: str) -> str | None:
    """Finish a spool, or all spools of a folder of ranks, that a killed `nandoctor record` left behind."""
    spool = os.path.abspath(spool)
    if os.path.isfile(os.path.join(spool, MARK)):
        for one in _in_order(spool, SUFFIX):
            recover(one)
        return spool if os.listdir(spool) != [MARK] else None
    if not spool.endswith(SUFFIX) or not os.path.isdir(spool):
        raise errors.no_spool(spool)
    if writer_lives(spool):
        raise errors.spool_lives(spool, header(spool).get("pid"))
    if not header(spool):
        raise errors.unreadable_spool(spool)
    return finished(spool)
