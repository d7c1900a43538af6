"""The spool: what a recording appends to while the training runs. Standard library only.

A folder beside the output, `<output>.spool/`, made atomically: whoever makes it owns the name.
    rows.bin     ROW structs, appended once a step; what was written outlives any kill
    notes.jsonl  JSON objects, one a line
    lock         held (POSIX record lock) as long as the writer lives
    reserve      given up when the disk is full, so that a note can say so
Where several processes train together the output is a folder of traces, `<output>/rank-00000.parquet` and so on.
"""

import contextlib
import errno
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from .schema import ROW

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

SUFFIX = ".spool"
MARK = ".nandoctor"  # in a folder of ranks: which launch it is of. Readers of data sets leave out names with a dot
RESERVE, RESERVED = "reserve", 16 << 10  # bytes: a header is 2 kB, and the parent adds how the command ended
ABOVE = 512  # descriptors: a program that counts or closes its own finds the numbers that it would have
APPENDING = os.O_WRONLY | os.O_CREAT | os.O_APPEND
LONGEST_NOTE = 64 << 20  # bytes of one line: a model of 100,000 layers has 15 MB
LONGEST_NUMBER = 305  # digits: the largest float has 309
NEEDED = ("header", "subject", "shape")


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


Append = Callable[[int, int, int, int, bytes], bool]  # descriptor, device, inode, bytes of a row, rows -> all written
Note = tuple[str, Mapping[str, Any]]  # its kind, its fields


class SpoolWriter:
    """Appends rows and notes; every write reaches the kernel before the call returns.

    Where the disk takes no more, `lost` says so: the note of it goes where the reserve lay, later writes do nothing.
    """

    def __init__(self, output: str, append: Append | None = None, first: Iterable[Note] = ()) -> None:
        """append: writes in one go, where it can (recording/kernel.c). first: notes; a spool is whole with them."""
        self.folder = output + SUFFIX
        self._append = append
        self.lost: str | None = None  # why nothing can be written any more
        try:
            self._lock = self._opened("lock", os.O_RDWR | os.O_CREAT)
            if fcntl is not None:
                fcntl.lockf(self._lock.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._rows, self._notes = (self._opened(name, APPENDING) for name in ("rows.bin", "notes.jsonl"))
            with open(os.path.join(self.folder, RESERVE), "wb") as file:
                file.write(bytes(RESERVED))
            for kind, fields in first:
                self.note(kind, **fields)
        except BaseException:  # a signal handler of the program may raise anywhere
            for name in ("lock", "rows.bin", "notes.jsonl", RESERVE):
                with contextlib.suppress(OSError):
                    os.unlink(os.path.join(self.folder, name))
            with contextlib.suppress(OSError):
                os.rmdir(self.folder)
            raise

    def _opened(self, name: str, flags: int) -> "_File":
        return _File(os.path.join(self.folder, name), flags | getattr(os, "O_BINARY", 0), self._append)

    def rows(self, packed: bytes) -> None:
        if self.lost is not None or not packed:
            return
        try:
            self._rows.append(packed, ROW.size)
        except OSError as error:
            self._give_up(error, ROW.unpack_from(packed)[0])

    def note(self, kind: str, /, **fields: Any) -> None:
        if self.lost is not None:
            return
        line = _line(kind, fields)
        try:
            self._notes.append(line)
        except OSError as error:
            self._give_up(error, fields.get("step"))
            if kind in NEEDED:  # a trace cannot be read without it
                with contextlib.suppress(OSError):
                    self._notes.append(line)

    def _give_up(self, error: OSError, step: object) -> None:
        self.lost = error.strerror or str(error)
        with contextlib.suppress(OSError):
            os.unlink(os.path.join(self.folder, RESERVE))
        with contextlib.suppress(OSError):
            self._notes.append(_line("probe_failed", {"probe": "spool", "step": step, "error": self.lost}))
        if sys.stderr is not None:  # else print would take stdout
            with contextlib.suppress(OSError, ValueError, AttributeError):
                place = "" if step is None else f" at step {step}"
                print(f"nandoctor: the recording ends{place}, the training goes on: {self.lost}", file=sys.stderr)

    def close(self) -> None:
        """The last write of a recording whose process goes on."""
        for file in (self._lock, self._rows, self._notes):
            file.close()


class _File:
    """A descriptor above those that the program will be given, checked to be still ours before each write."""

    def __init__(self, path: str, flags: int, append: Append | None) -> None:
        self._append = append
        descriptor = os.open(path, flags, 0o644)
        if fcntl is not None:
            try:
                high = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, ABOVE)
            except OSError:  # the limit of open files is lower
                high = descriptor
            if high != descriptor:
                os.close(descriptor)
                descriptor = high
        self.descriptor = descriptor
        self._identity = self._now()[:2]

    def _now(self) -> tuple[int, int, int]:
        status = os.fstat(self.descriptor)
        return status.st_dev, status.st_ino, status.st_size

    def append(self, data: bytes, whole: int = 1) -> None:
        """All of it; of rows, where the disk is full, as many whole ones as it takes."""
        if self._append is not None and self._append(self.descriptor, *self._identity, whole, data):
            return
        device, inode, size = self._now()
        if (device, inode) != self._identity:
            raise OSError(errno.EBADF, "the program has closed the file of the recording")
        if size % whole:  # cut by an error or an interrupt: what follows must stay readable
            os.ftruncate(self.descriptor, size - size % whole)
            size -= size % whole
        try:
            while data:
                data = data[os.write(self.descriptor, data) :]
        except OSError:
            with contextlib.suppress(OSError):
                end = os.fstat(self.descriptor).st_size
                os.ftruncate(self.descriptor, size if whole == 1 else end - end % whole)
            raise

    def close(self) -> None:
        with contextlib.suppress(OSError):
            if self._now()[:2] == self._identity:
                os.close(self.descriptor)


def _line(kind: str, fields: Mapping[str, Any]) -> bytes:
    return json.dumps({"note": kind, **fields}, default=str).encode("utf-8", "backslashreplace") + b"\n"


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
    with open(os.path.join(folder, "notes.jsonl"), "rb") as file:
        left = written_bytes(file.fileno())
        while left > 0:
            line = file.readline(min(left, LONGEST_NOTE))
            left -= len(line)
            if not line.endswith(b"\n"):
                if len(line) < LONGEST_NOTE:
                    break
                continue  # its other pieces are no JSON either
            try:
                note = json.loads(line.decode("utf-8", "replace"), parse_int=whole_number)
            except (ValueError, RecursionError):
                continue
            if isinstance(note, dict):
                notes.append(note)
    return notes


def whole_number(digits: str) -> float:
    """An integer of a note; 10^4000, which no float can follow, is infinite."""
    return int(digits) if len(digits) < LONGEST_NUMBER else float(digits)


def written_bytes(descriptor: int) -> int:
    """Bytes before the first hole: a spool is appended to, and a stranger's may claim 50 GB that nobody wrote."""
    size = os.fstat(descriptor).st_size
    try:
        hole = os.lseek(descriptor, 0, os.SEEK_HOLE)
    except (OSError, AttributeError, ValueError):  # an empty file; a disk or a system that does not tell
        return size
    os.lseek(descriptor, 0, os.SEEK_SET)
    return min(size, hole)


def append_note(folder: str, kind: str, /, **fields: Any) -> None:
    """Add a note to a spool whose writer has ended (the parent's `end`)."""
    with open(os.path.join(folder, "notes.jsonl"), "a", encoding="utf-8") as notes:
        # a line of its own, also behind one that a kill has cut
        notes.write("\n" + json.dumps({"note": kind, **fields}, default=str) + "\n")
