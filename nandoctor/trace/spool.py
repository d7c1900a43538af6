"""The spool: what a recording appends to while the training runs. Standard library only.

A folder beside the output, `<output>.spool/`, made atomically: whoever makes it owns the name.
    rows.bin     ROW structs, appended once a step; what was written outlives any kill
    notes.jsonl  JSON objects, one a line
    lock         held (POSIX record lock) as long as the writer lives
Where several processes train together the output is a folder of traces, `<output>/rank-00000.parquet` and so on.
"""

import json
import os
import shutil
from collections.abc import Iterator
from typing import Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

SUFFIX = ".spool"
MARK = ".nandoctor"  # in a folder of ranks: which launch it is of. Readers of data sets leave out names with a dot


def free_output(wanted: str) -> str:
    """Claim the first free of run.parquet, run.2.parquet, ...: makes its spool folder and returns the output path.

    Raises OSError where the folder cannot be written.
    """
    for output in _names(wanted):
        if os.path.lexists(output):
            continue
        try:
            os.mkdir(output + SUFFIX)
        except FileExistsError:
            continue
        if os.path.lexists(output):  # finished by another process between the two looks
            os.rmdir(output + SUFFIX)
            continue
        return output
    raise AssertionError("there is always a next name")


def rank_output(wanted: str, rank: int, launch: str) -> str:
    """Claim rank-00001.parquet in the first of run.parquet/, run.2.parquet/, ... that is free or of the same launch.

    Raises OSError where the folder cannot be written.
    """
    for folder in _names(wanted):
        if not _joined(folder, launch):
            continue
        output = os.path.join(folder, f"rank-{rank:05d}.parquet")
        if os.path.lexists(output):  # the same processes, spawned a second time
            continue
        try:
            os.mkdir(output + SUFFIX)
        except FileExistsError:
            continue
        return output
    raise AssertionError("there is always a next name")


def _names(wanted: str) -> Iterator[str]:
    """run.parquet, run.2.parquet, run.3.parquet, ... without end."""
    yield wanted
    stem, ending = os.path.splitext(wanted)
    number = 2
    while True:
        yield f"{stem}.{number}{ending}"
        number += 1


def _joined(folder: str, launch: str) -> bool:
    """Whether the folder is this launch's: made now, or before by another of its ranks."""
    if os.path.lexists(folder + SUFFIX):
        return False
    if not os.path.lexists(folder):
        whole = f"{folder}.{os.getpid()}.making"
        os.mkdir(whole)
        with open(os.path.join(whole, MARK), "w", encoding="utf-8", errors="surrogateescape") as mark:
            mark.write(launch)
        try:
            os.rename(whole, folder)  # with its mark in it, so that nobody ever sees the one without the other
        except OSError:
            shutil.rmtree(whole, ignore_errors=True)
        else:
            if not os.path.lexists(folder + SUFFIX):
                return True
            shutil.rmtree(folder, ignore_errors=True)  # a training by itself took the name at the same moment
            return False
    try:
        with open(os.path.join(folder, MARK), encoding="utf-8", errors="surrogateescape") as mark:
            return mark.read() == launch
    except OSError:  # somebody else's
        return False


class SpoolWriter:
    """Appends rows and notes; every write reaches the kernel before the call returns."""

    def __init__(self, output: str) -> None:
        self.folder = output + SUFFIX
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
        self._lock = os.open(os.path.join(self.folder, "lock"), os.O_RDWR | os.O_CREAT, 0o644)
        if fcntl is not None:
            fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._rows = os.open(os.path.join(self.folder, "rows.bin"), flags, 0o644)
        self._notes = os.open(os.path.join(self.folder, "notes.jsonl"), flags, 0o644)

    def rows(self, packed: bytes) -> None:
        _write_all(self._rows, packed)

    def note(self, kind: str, /, **fields: Any) -> None:
        text = json.dumps({"note": kind, **fields}, default=str)
        _write_all(self._notes, text.encode("utf-8", "backslashreplace") + b"\n")

    def close(self) -> None:
        """The last write of a recording whose process goes on."""
        for descriptor in (self._rows, self._notes, self._lock):
            os.close(descriptor)


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def writer_lives(folder: str) -> bool:
    """Whether the process that made this spool still runs."""
    if fcntl is None:
        return False
    try:
        descriptor = os.open(os.path.join(folder, "lock"), os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def read_notes(folder: str) -> list[dict[str, Any]]:
    """The notes written so far; a last line cut by a kill is left out."""
    notes = []
    with open(os.path.join(folder, "notes.jsonl"), encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if not line.endswith("\n"):
                break
            try:
                note = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(note, dict):
                notes.append(note)
    return notes


def append_note(folder: str, kind: str, /, **fields: Any) -> None:
    """Add a note to a spool whose writer has ended (the parent's `end`)."""
    with open(os.path.join(folder, "notes.jsonl"), "a", encoding="utf-8") as notes:
        # a line of its own, also behind one that a kill has cut
        notes.write("\n" + json.dumps({"note": kind, **fields}, default=str) + "\n")
