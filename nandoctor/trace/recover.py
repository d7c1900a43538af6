"""A spool whose writer has ended -> run.parquet beside it.

The file is written inside the spool folder and appears under its final name only when it is whole; nothing
that exists is replaced. The spool is removed last: whenever this is killed, one or the other is there.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from nandoctor.errors import UserError, newer_trace, no_spool, not_a_trace, spool_lives
from nandoctor.trace import spool as spools
from nandoctor.trace.columns import Lexicon
from nandoctor.trace.notes import Note, notes_in, packed
from nandoctor.trace.rows import RowSource, Survey, rows_in_file, survey
from nandoctor.trace.schema import VERSION
from nandoctor.trace.trace import Records, Trace

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

UNFINISHED = "unfinished.parquet"  # inside the spool


def finish(spool: Path) -> Path | None:
    """The finished trace, or None where nothing trained; either way the spool is gone.

    Raises UserError while another process writes or finishes it, OSError where the disk does not let it.
    """
    if spool.suffix != spools.SUFFIX:
        raise not_a_trace(str(spool), f"a spool is a folder whose name ends in {spools.SUFFIX}")
    wanted = spool.with_suffix("")
    try:
        return _finish(spool, wanted)
    except FileNotFoundError:
        if not spool.exists() and wanted.is_file():  # another process was faster
            return wanted
        if not spool.is_dir():
            raise no_spool(str(spool)) from None
        raise


def _finish(spool: Path, wanted: Path) -> Path | None:
    with _held(spool):
        if _stands_already(spool, wanted):  # killed before it could remove the spool
            _remove(spool)
            return wanted
        output = _publish(spool / UNFINISHED, wanted) if _converted(spool) else None
        _remove(spool)
        return output


def _converted(spool: Path) -> bool:
    """Write the spool as Parquet into its own folder; False where nothing trained."""
    notes = notes_in(spool)
    check_version(spool, notes)
    with closing(rows_in_file(spool / "rows.bin")) as source:
        seen = survey(source)
        trained = seen.trained(died=any(note["note"] == "exception" for note in notes))
        if trained:
            try:
                write_file(spool / UNFINISHED, source, seen, notes)
            except OSError:  # the disk is full: half a file helps nobody and takes room
                (spool / UNFINISHED).unlink(missing_ok=True)
                raise
    return trained


def remove_rest(output: Path) -> None:
    """Remove the spool that `output` was made of, if that was killed before it could do so itself."""
    spool = output.with_name(output.name + spools.SUFFIX)
    try:
        if _stands_already(spool, output):
            with _held(spool):
                _remove(spool)
    except (OSError, UserError):
        pass  # it is in nobody's way


def write_file(path: Path, source: RowSource, seen: Survey, notes: list[Note]) -> None:
    """A run.parquet that has reached the disk when this returns."""
    from nandoctor.trace import parquet  # here: a run in which nothing trained needs no pyarrow

    words = Lexicon(Trace(str(path), tuple(notes), _no_rows))
    parquet.write(path, source, seen, words, packed(notes), VERSION)
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def check_version(path: Path, notes: list[Note]) -> None:
    """UserError where the notes' header says that another nandoctor wrote this."""
    version = _header(notes).get("version", VERSION)
    if not isinstance(version, int) or version < 1:
        raise not_a_trace(str(path), "its header names no version of the format that ever existed")
    if version > VERSION:
        raise newer_trace(str(path), writer_of(notes))


def writer_of(notes: list[Note]) -> object:
    """The version of the nandoctor that recorded."""
    return _header(notes).get("nandoctor")


def _header(notes: list[Note]) -> Note:
    return next((note for note in notes if note["note"] == "header"), {})


def _no_rows(kind: str) -> Records:
    raise LookupError(kind)


@contextmanager
def _held(spool: Path) -> Iterator[None]:
    """Hold the writer's lock: two processes must not finish the same spool, each under a name of its own."""
    if fcntl is None:
        yield
        return
    descriptor = os.open(spool / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise spool_lives(str(spool), _writer(spool)) from None
        if not (spool / "lock").exists():  # removed between the two calls, by a process that finished it
            raise FileNotFoundError(str(spool))
        yield
    finally:
        os.close(descriptor)


def _writer(spool: Path) -> object:
    return _header(notes_in(spool)).get("pid", "of another program")


def _stands_already(spool: Path, wanted: Path) -> bool:
    unfinished = spool / UNFINISHED
    return unfinished.exists() and wanted.exists() and os.path.samefile(unfinished, wanted)


def _publish(file: Path, wanted: Path) -> Path:
    """Give a whole file its name, or the next free one: a hard link never replaces anything."""
    if _linked(file, wanted):
        return wanted
    while True:
        output = spools.free_output(str(wanted))  # claims the name
        try:
            if _linked(file, Path(output)):
                return Path(output)
        finally:
            os.rmdir(output + spools.SUFFIX)


def _linked(file: Path, name: Path) -> bool:
    try:
        os.link(file, name)
    except FileExistsError:
        return False
    except OSError:  # no hard links here (FAT, some network disks); the claimed spool keeps the name ours
        if os.path.lexists(name):
            return False
        os.rename(file, name)
    _sync(name.parent)
    return True


def _sync(folder: Path) -> None:
    """The name, too, must survive a power cut before the spool goes."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows opens no folders
        return
    try:
        os.fsync(descriptor)
    except OSError:  # some network disks
        pass
    finally:
        os.close(descriptor)


def _remove(spool: Path) -> None:
    """Rows first, the linked file last: while it is there, a second call sees that the trace stands."""
    for name in ("rows.bin", "notes.jsonl"):
        (spool / name).unlink(missing_ok=True)
    shutil.rmtree(spool, ignore_errors=True)
