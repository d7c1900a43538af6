"""A path -> Trace: a finished run.parquet, a spool that is still written, or one that was left behind."""

import os
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from nandoctor.errors import (
    UserError,
    newer_trace,
    no_trace,
    no_trace_here,
    not_a_trace,
    nothing_recorded,
    trace_denied,
    trace_is_folder,
)
from nandoctor.trace import pages
from nandoctor.trace.columns import shape_text
from nandoctor.trace.notes import notes_in, unpacked
from nandoctor.trace.recover import check_version, finish, remove_rest, writer_of
from nandoctor.trace.rows import rows_in_file, rows_of, survey
from nandoctor.trace.schema import KIND, VERSION
from nandoctor.trace.spool import MARK, SUFFIX, writer_lives
from nandoctor.trace.table import Column, InGroups
from nandoctor.trace.trace import Rows, Trace, dtype_of

MAGIC = b"PAR1"  # first and last bytes of a Parquet file
ROWS_OF_ANY_FILE = 1 << 16  # as many rows are believed of the smallest file: its footer alone has 10 kB
ROWS_PER_BYTE = 32  # and as many a byte of larger ones; real traces hold 0.1, one of nothing but zeros 7


def open_trace(path: Path) -> Trace:
    """The trace at a path: run.parquet, run.parquet.spool, or a run.parquet that is still a spool.

    Raises UserError for everything that is no readable trace. Rows are read when a kind is first asked for.
    """
    try:
        if path.is_file():
            remove_rest(path)
            return _open_file(path)
        spool = path if path.suffix == SUFFIX else path.with_name(path.name + SUFFIX)
        if spool.is_dir():
            return _open_spool(spool)
        finished = path.with_suffix("")
        if path.suffix == SUFFIX and finished.is_file():
            return _open_file(finished)
        if path.is_dir():
            raise trace_is_folder(str(path))
        if path.exists():
            raise not_a_trace(str(path), "it is no regular file")
    except PermissionError:
        raise trace_denied(str(path)) from None
    raise no_trace(str(path))


def newest_trace(folder: Path) -> Path:
    """The trace in the folder that was written to last: a finished one or a spool."""
    found: list[tuple[int, Path]] = []
    for path in folder.iterdir():
        written = path / "rows.bin" if path.suffix == SUFFIX else path
        if path.suffix == ".parquet" and (path / MARK).is_file():
            inside = [file / "rows.bin" if file.suffix == SUFFIX else file for file in path.glob("rank-*")]
            found += [(_written_ns(file), path) for file in inside]
            continue
        if path.suffix not in (SUFFIX, ".parquet") or (path.suffix == SUFFIX and path.with_suffix("").exists()):
            continue
        try:
            status = written.stat()
        except OSError:
            continue
        if stat.S_ISREG(status.st_mode):
            found.append((status.st_mtime_ns, path))
    for _, path in sorted(found, reverse=True):
        if path.suffix == SUFFIX or path.is_dir() or _names_nandoctor(path):
            return path
    raise no_trace_here(str(folder))


def _written_ns(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:  # a spool that became a file in between
        return 0


def rows_by_kind(trace: Trace) -> dict[str, int]:
    """How many rows of each kind an opened trace holds, without loading them."""
    path = Path(trace.path)
    if path.is_dir():
        with closing(rows_in_file(path / "rows.bin")) as source:
            counts = survey(source).counts
        return {kind: int(counts[number]) for kind, number in KIND.items()}
    if path.is_file():
        from nandoctor.trace import parquet

        try:
            return parquet.OpenFile(path).count()
        except parquet.Unreadable as error:
            raise not_a_trace(str(path), str(error)) from None
    return {kind: len(trace.load(kind)) for kind in KIND}


def _open_file(path: Path) -> Trace:
    from nandoctor.trace import parquet  # here: a spool can be read without pyarrow

    reason = _not_parquet(path)
    if reason:
        raise not_a_trace(str(path), reason)
    try:
        file = parquet.OpenFile(path)
        stored = file.texts.get(parquet.VERSION_KEY, b"")
        if not stored or parquet.NOTES_KEY not in file.texts:
            raise parquet.Unreadable("it is a Parquet file, but another program's")
        if not stored.isdigit() or not 1 <= int(stored[:9]):
            raise parquet.Unreadable("it names no version of the format that ever existed")
        notes = unpacked(file.texts[parquet.NOTES_KEY])
        if int(stored[:9]) > VERSION:
            raise newer_trace(str(path), writer_of(notes))
        file.check_columns()
        if file.rows > max(ROWS_OF_ANY_FILE, ROWS_PER_BYTE * pages.bytes_held(path)):
            raise parquet.Unreadable("it claims more rows than it can hold")
    except (parquet.Unreadable, ValueError) as error:
        raise not_a_trace(str(path), str(error)) from None

    @contextmanager
    def refused() -> Iterator[None]:
        try:
            yield
        except parquet.Unreadable as error:
            raise not_a_trace(str(path), str(error)) from None

    def load(kind: str) -> Rows:
        def read(group: int, name: str) -> Column:
            with refused():
                return file.column(group, name, kind, shape_ids)

        with refused():
            groups = file.groups_of(kind)
        return Rows(InGroups(kind, dtype_of(kind), groups, read, file.kept))

    trace = Trace(str(path), tuple(notes), load)
    shape_ids = {shape_text(shape): number for number, shape in reversed(list(trace.shapes.items()))}
    return trace


def _open_spool(spool: Path) -> Trace:
    if not (spool / "lock").exists():  # claimed a moment ago, or no spool of ours: not to be removed
        raise nothing_recorded(str(spool))
    if not writer_lives(str(spool)):
        try:
            finished = finish(spool)
        except UserError:  # another process took it up in between, or it cannot be read: said below
            finished = spool
        except OSError:  # the folder may not be written, or the disk is full
            finished = spool
        if finished is None:
            raise nothing_recorded(str(spool))
        if finished is not spool:
            return _open_file(finished)
    source = rows_in_file(spool / "rows.bin")  # before the notes: then every row finds its subject
    notes = notes_in(spool)
    check_version(spool, notes)
    seen = survey(source)
    return Trace(str(spool), tuple(notes), lambda kind: rows_of(kind, source, seen), alive=writer_lives(str(spool)))


def _not_parquet(path: Path) -> str | None:
    """What is wrong with the frame of a Parquet file, in words."""
    size = path.stat().st_size
    if size == 0:
        return "it is empty"
    with open(path, "rb") as file:
        head = file.read(len(MAGIC))
        file.seek(-min(size, len(MAGIC) + 4), os.SEEK_END)
        tail = file.read()
    if head != MAGIC:
        return "it is no Parquet file"
    if tail[4:] != MAGIC or size <= 12:
        return "it was cut: its end is missing"
    footer = int.from_bytes(tail[:4], "little")
    fits = footer <= min(pages.bytes_held(path), pages.FOOTER_BYTES)
    return None if fits else "it is damaged: its footer is too long"


def _names_nandoctor(path: Path) -> bool:
    """Whether a Parquet file's footer names us; without reading it as Parquet."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            if size < 12:
                return False
            file.seek(-8, os.SEEK_END)
            length = int.from_bytes(file.read(4), "little")
            if file.read() != MAGIC or length > size - 12:
                return False
            file.seek(-8 - length, os.SEEK_END)
            return b"nandoctor.version" in file.read(length)
    except OSError:
        return False
