"""One mutation of a sound file: bytes changed anywhere, or a valid file whose content is hostile."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

from nandoctor.trace.schema import ROW
from tests.fuzz import bases, hostile

BYTES = ("flip", "set", "cut", "drop", "double", "insert", "footer", "page")  # of any file
CONTENT = ("note", "cell", "column")  # of traces: what is written stays valid Parquet, JSON and rows
NOTES_KEY = b"nandoctor"


@dataclass(frozen=True)
class Change:
    how: str
    place: float  # 0 to 1, along the file
    value: int


@dataclass(frozen=True)
class Mutation:
    base: str
    changes: tuple[Change, ...]
    command: int


def mutations(names: tuple[str, ...]) -> st.SearchStrategy[Mutation]:
    place = st.floats(0, 1, exclude_max=True, allow_subnormal=False)
    changes = [  # a changed byte is mostly refused: what lies behind the reader is reached by content alone
        st.lists(st.builds(Change, st.sampled_from(how), place, st.integers(0, 2**32 - 1)), min_size=1, max_size=most)
        for how, most in ((BYTES, 3), (CONTENT, 6), (CONTENT, 6))
    ]
    return st.builds(Mutation, st.sampled_from(names), st.one_of(changes).map(tuple), st.integers(0, 10**6))


def apply(mutation: Mutation, sound: Path, work: Path) -> Path:
    """The mutated copy, under the base's own name in `work`."""
    source, target = sound / mutation.base, work / mutation.base
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copyfile(source, target)
    for change in mutation.changes:
        if change.how in CONTENT and target.suffix in (".parquet", ".spool"):
            _content(target, change)
        else:
            _bytes(_file_of(target, change), change)
    return target


def _file_of(target: Path, change: Change) -> Path:
    return target if target.is_file() else target / ("rows.bin", "notes.jsonl")[change.value % 2]


def _bytes(path: Path, change: Change) -> None:
    data = bytearray(path.read_bytes())
    if not data:
        return
    how, at = change.how, int(change.place * len(data))
    if how == "footer" and path.suffix == ".parquet":  # the last 8 bytes say where it begins
        length = int.from_bytes(data[-8:-4], "little")
        start = max(0, len(data) - 8 - length)
        # the notes lie in it, too; its first part steers Arrow
        at = start + int(change.place**2 * (len(data) - start))
        data[at] = change.value & 255
    elif how == "page" and path.suffix == ".parquet":  # headers of pages stand near the beginning of each chunk
        at = 4 + int(change.place**2 * len(data) / 3)
        data[at] = change.value & 255
    elif how in ("flip", "footer", "page", *CONTENT):
        data[at] ^= 1 << change.value % 8
    elif how == "set":
        data[at : at + 4] = change.value.to_bytes(4, "little")
    elif how == "cut":
        del data[at:]
    elif how == "drop":
        del data[at : at + 1 + change.value % 64]
    elif how == "double":
        data[at:at] = data[at : at + 1 + change.value % 512]
    else:
        value = hostile.VALUES[change.value % len(hostile.VALUES)]
        text = value if isinstance(value, str) else json.dumps(value)
        data[at:at] = text[:5000].encode("utf-8", "surrogatepass")
    path.write_bytes(data)


def _content(target: Path, change: Change) -> None:
    value = hostile.VALUES[change.value % len(hostile.VALUES)]
    if target.is_dir():
        if change.how == "note":
            lines = (target / "notes.jsonl").read_bytes().splitlines()
            at = int(change.place * len(lines))
            try:
                lines[at] = json.dumps(_planted(json.loads(lines[at]), value, change.value)).encode()
            except (ValueError, IndexError, RecursionError):
                return
            (target / "notes.jsonl").write_bytes(b"\n".join(lines) + b"\n")
        else:
            _row(target / "rows.bin", change)
        return
    try:
        table = pq.read_table(target)
        metadata = dict(table.schema.metadata or {})
        if change.how == "note":
            notes = json.loads(metadata[NOTES_KEY])
            at = int(change.place * len(notes))
            notes[at] = _planted(notes[at], value, change.value)
            metadata[NOTES_KEY] = json.dumps(notes).encode()
        else:
            table = _with_cell(table, change)
        pq.write_table(table.replace_schema_metadata(metadata), target)
    except (pa.ArrowException, OSError, ValueError, KeyError, IndexError, RecursionError):  # it is damaged already
        _bytes(target, Change("flip", change.place, change.value))


def _row(path: Path, change: Change) -> None:
    """Another kind, step or number in one row, or in all rows of its kind."""
    rows = [list(ROW.unpack(row)) for row in batched(path.read_bytes(), ROW.size) if len(row) == ROW.size]
    if not rows:
        return
    chosen = rows[int(change.place * len(rows))]
    kind = chosen[4]
    field = (0, 4, 8, 9, 10, 8, 9, 10)[change.value % 8]
    value = change.value // 8
    for row in [row for row in rows if row[4] == kind] if change.how == "column" else [chosen]:
        row[field] = hostile.REALS[value % len(hostile.REALS)] if field > 7 else value % (2**32 if field == 0 else 256)
    path.write_bytes(b"".join(ROW.pack(*row) for row in rows))


def batched(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def _planted(note: Any, value: object, choice: int) -> Any:
    """The note with one of its values, at any depth, replaced."""
    places: list[tuple[Any, Any]] = []

    def walk(part: Any) -> None:
        entries = part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ()
        for key, inner in entries:
            places.append((part, key))
            walk(inner)

    walk(note)
    if places:
        holder, key = places[choice // 131 % len(places)]
        holder[key] = value
    return note


def _with_cell(table: pa.Table, change: Change) -> pa.Table:
    """One cell, or a whole column, of another value that its type allows."""
    at = int(change.place * table.num_columns)
    kind = table.schema.types[at]
    if pa.types.is_floating(kind):
        value: object = hostile.REALS[change.value % len(hostile.REALS)]
    elif pa.types.is_boolean(kind):
        value = bool(change.value % 2)
    elif pa.types.is_integer(kind):
        limit = 2 ** (kind.bit_width - 1)
        value = (0, -1, 1, limit - 1, -limit, 255, 65536)[change.value % 7]
    else:
        text = hostile.TEXTS[change.value % len(hostile.TEXTS)]
        value = text.encode("utf-8", "replace").decode()
    values = table.column(at).to_pylist()
    if change.how == "column":
        values = [value] * min(len(values), 500 if isinstance(value, str) and len(value) > 1000 else len(values))
        values += table.column(at).to_pylist()[len(values) :]
    elif values:
        values[change.value // 7 % len(values)] = value
    return table.set_column(at, table.schema.field(at), pa.array(values, kind))


def command_of(mutation: Mutation, target: Path, work: Path, twin: Path) -> list[str]:
    """A command line that reads the mutated file; pictures are dear, so they are fewer."""
    plain = [
        ["diagnose"], ["diagnose", "--json"], ["diagnose", "--full"], ["show"],
        ["show", "--step", "0:9", "--limit", "1000"], ["show", "--layer", "*"], ["show", "--kind", "loss"],
    ]  # fmt: skip
    name = str(target)
    number = mutation.command
    if target.suffix not in (".parquet", ".spool"):
        return [*plain[number % 3], name]
    if number % 6 == 0:
        what = ("grad-norm", "loss", "activations", "lr", "weights", "updates", "provenance")[number // 6 % 7]
        ending = ("png", "svg", "pdf")[number // 42 % 3]
        return ["plot", what, name, "-o", str(work / f"picture.{ending}")]
    if number % 6 == 1:
        pair = [name, str(twin)] if number // 6 % 2 else [str(twin), name]
        return ["diagnose", *pair, *([], ["--json"], ["--full"])[number // 12 % 3]]
    return [*plain[number // 6 % len(plain)], name]


FILES = (*bases.TRACES, bases.SPOOL, bases.OTHER, *bases.LOGS)
