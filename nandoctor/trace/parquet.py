"""Rows and notes -> run.parquet -> Trace. The only file that imports pyarrow.

Arrow imports pandas behind one's back in pa.array, pa.table and to_numpy (300 ms): arrays come from buffers.
A row group holds one kind where that has many rows, sorted by subject and time: each kind can be read alone.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
from numpy.typing import NDArray

from nandoctor.trace import columns, pages
from nandoctor.trace.columns import CLOCK, COLUMNS, COUNTS, FLAGS, LATER, NULLABLE, REALS, WHOLE, WORDS, Lexicon
from nandoctor.trace.parquet_columns import absent, bits, numbers, places
from nandoctor.trace.rows import Opened, RowSource, Survey, Timed, timed
from nandoctor.trace.schema import DTYPES, KIND, MODES, NO_SHAPE, NORM_ONLY, TENSOR_KINDS
from nandoctor.trace.table import Kept

NOTES_KEY = b"nandoctor"
VERSION_KEY = b"nandoctor.version"
BLOCK_ROWS = 1 << 18  # sorted and written together: 10 MB of spool, 110 MB of memory at that moment
LEVEL = 6  # zstd: 0.4 bytes a row less than its level 1, for a sixth more time
OWN_GROUP = 1 << 13  # rows that deserve a row group of their own: it costs 4 kB of metadata
TYPES: dict[str, Any] = {
    "int64": pa.int64(),
    "int32": pa.int32(),
    "double": pa.float64(),
    "bool": pa.bool_(),
    "string": pa.string(),
}
LEAST = {name: -1 if name in ("epoch", "subject") else 0 for name in (*CLOCK, *WHOLE)}  # less is nonsense
IDS = {  # words as ids, and the id where there is none
    "kind": (KIND, len(KIND)),
    "dtype": ({name: number for number, name in enumerate(DTYPES)}, 0),
    "mode": ({name: number for number, name in enumerate(MODES)}, 0),
}
KEPT_BYTES = 1 << 27  # of columns read; what does not fit is read again when it is asked for again
RISING = (*CLOCK, "subject")  # in the order of a row group: differences cost next to nothing
ENCODINGS = {**dict.fromkeys(REALS, "BYTE_STREAM_SPLIT"), **dict.fromkeys(RISING, "DELTA_BINARY_PACKED")}


def write(path: Path, source: RowSource, seen: Survey, words: Lexicon, notes: bytes, version: int) -> None:
    """Everything to one file, a block at a time. Strings are dictionaries inside; readers see plain text."""
    schema = pa.schema([pa.field(name, _arrow_type(kind), name in NULLABLE) for name, kind in COLUMNS.items()])
    with pq.ParquetWriter(
        path,
        schema,
        compression="zstd",
        compression_level=LEVEL,
        store_schema=False,
        use_dictionary=[*WORDS, *COUNTS, "count", "call"],
        column_encoding=ENCODINGS,
        write_statistics=["order", "step", "kind", "subject"],
        write_page_checksum=True,  # a flipped bit is an error in words, not another number
    ) as writer:
        for block in timed(source, seen, BLOCK_ROWS):
            for group in _groups(block):
                table = pa.Table.from_arrays(_arrays(group, words), schema=schema)
                writer.write_table(table, row_group_size=len(group.rows))
        writer.add_key_value_metadata({NOTES_KEY: notes, VERSION_KEY: str(version).encode()})


def _arrow_type(kind: str) -> Any:
    return pa.dictionary(pa.int32(), pa.string()) if kind == "string" else TYPES[kind]


def _groups(block: Timed) -> Iterator[Timed]:
    """The row groups of a block: each kind with many rows by itself, the rest together."""
    by_kind = np.lexsort((block.rows["subject"], block.rows["kind"]))  # stable: time last
    counts = np.bincount(block.rows["kind"])
    alone = counts >= OWN_GROUP
    rest = by_kind[~alone[block.rows["kind"][by_kind]]]
    places = [by_kind[block.rows["kind"][by_kind] == kind] for kind in np.flatnonzero(alone)]
    for place in [*places, rest]:
        if len(place):
            yield Timed(*(part[place] for part in block))


def _arrays(group: Timed, words: Lexicon) -> list[Any]:
    whole = columns.clock(group)
    return [_array(name, group, whole, words) for name in COLUMNS]


def _array(name: str, group: Timed, whole: dict[str, NDArray[Any]], words: Lexicon) -> Any:
    rows = group.rows
    if name == "rank":
        return _from_numpy(TYPES["int32"], np.full(len(rows), words.rank, np.int32))
    if name in whole:
        return _from_numpy(TYPES[COLUMNS[name]], whole[name])
    if name in WORDS:
        places, texts = words.words(name, rows)
        return pa.DictionaryArray.from_arrays(_from_numpy(pa.int32(), places, places >= 0), _strings(texts))
    if name in FLAGS:
        bits = np.packbits((rows["flags"] & FLAGS[name]) != 0, bitorder="little")
        return pa.Array.from_buffers(pa.bool_(), len(rows), [None, pa.py_buffer(bits)])
    if name == "count":
        counts = words.counts[rows["shape"]]
        return _from_numpy(pa.int64(), counts, counts >= 0)
    return _from_numpy(TYPES[COLUMNS[name]], *columns.number(name, rows))


def _from_numpy(kind: Any, values: NDArray[Any], there: NDArray[np.bool_] | None = None) -> Any:
    valid = None
    if there is not None and not there.all():
        valid = pa.py_buffer(np.packbits(there, bitorder="little"))
    return pa.Array.from_buffers(kind, len(values), [valid, pa.py_buffer(np.ascontiguousarray(values))])


def _strings(texts: list[str]) -> Any:
    encoded = [text.encode("utf-8", "replace") for text in texts]  # JSON can name a lone surrogate, UTF-8 cannot
    ends = np.zeros(len(encoded) + 1, np.int32)
    np.cumsum([len(text) for text in encoded], out=ends[1:])
    return pa.Array.from_buffers(pa.string(), len(encoded), [None, pa.py_buffer(ends), pa.py_buffer(b"".join(encoded))])


class Unreadable(Exception):
    """What is wrong with a file, in words; trace/open.py makes a UserError of it."""


class OpenFile:
    """An open run.parquet: its metadata, and a column of one row group at a time."""

    def __init__(self, path: Path) -> None:
        with _damage_in_words():
            metadata = pq.read_metadata(path)
            texts = [name for name in WORDS if name in metadata.schema.names]
            self._file = pq.ParquetFile(path, metadata=metadata, read_dictionary=texts, page_checksum_verification=True)
            self._raw = Opened(path)  # for pages.check
            self._held = pages.bytes_held(path)
            self._place = {name: place for place, name in enumerate(metadata.schema.names)}
            self._checked: set[tuple[int, str]] = set()
            self._there = set(self._file.schema_arrow.names)
            self.texts: dict[bytes, bytes] = metadata.metadata or {}
            self._groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
            self._kinds = [_kinds_in(group) for group in self._groups]
            self.rows = sum(max(0, group.num_rows) for group in self._groups)
        self.kept = Kept(KEPT_BYTES)

    def check_columns(self) -> None:
        with _damage_in_words():
            schema = self._file.schema_arrow
        for name, kind in COLUMNS.items():
            places = schema.get_all_field_indices(name)
            if not places and name in LATER:
                continue
            if len(places) != 1:
                raise Unreadable(f"its column {name} is missing" if not places else f"it has the column {name} twice")
            found = schema.field(places[0]).type
            if (found.value_type if pa.types.is_dictionary(found) else found) != TYPES[kind]:
                raise Unreadable(f"its column {name} holds {found} instead of {kind}")

    def groups_of(self, kind: str) -> list[tuple[int, NDArray[np.int64] | None]]:
        """The row groups that hold a kind, and its places there; None: the whole group."""
        found: list[tuple[int, NDArray[np.int64] | None]] = []
        with _damage_in_words():
            for group, (first, last) in enumerate(self._kinds):
                if first <= kind <= last:
                    held = self._once(group, "kind") == KIND[kind]
                    if held.any():
                        found.append((group, None if held.all() else np.flatnonzero(held)))
        return found

    def column(self, group: int, name: str, kind: str, shape_ids: Mapping[str, int]) -> NDArray[Any]:
        """A whole column of a row group, under its name in dtype_of(kind)."""
        with _damage_in_words():
            if name == "shape":
                return places(self._read(group, "shape"), shape_ids, NO_SHAPE)
            if name == "flags" and kind in TENSOR_KINDS:
                return np.asarray(self._once(group, name) | self._once(group, "low absent") * np.uint8(NORM_ONLY))
            if name in COLUMNS and name not in self._there or name.startswith("_"):
                return np.full(self._groups[group].num_rows, np.nan)
            return self._once(group, name)

    def _once(self, group: int, name: str) -> NDArray[Any]:
        """Of a group that holds several kinds, for all of them."""
        first, last = self._kinds[group]
        if first == last:
            return self._decoded(group, name)
        return self.kept.get((group, name), partial(self._decoded, group, name))

    def _decoded(self, group: int, name: str) -> NDArray[Any]:
        if name in LEAST:
            return np.asarray(numbers(self._read(group, name), COLUMNS[name], LEAST[name]).clip(LEAST[name]))
        if name == "flags":
            for flag in FLAGS:
                self._check(group, flag)
            table = self._file.read_row_group(group, columns=list(FLAGS), use_threads=False)
            set_bits = [bits(table.column(name)) * np.uint8(bit) for name, bit in FLAGS.items()]
            return np.asarray(np.sum(set_bits, axis=0, dtype=np.uint8))
        if name == "low absent":
            return absent(self._read(group, "low"))
        if name in IDS:
            return places(self._read(group, name), *IDS[name]).astype(np.uint8)
        return numbers(self._read(group, name), COLUMNS[name], np.nan)

    def _check(self, group: int, name: str) -> None:
        """Before Arrow believes what a column says of itself."""
        if (group, name) in self._checked or name not in self._place:
            return
        column, rows = self._groups[group].column(self._place[name]), self._groups[group].num_rows
        starts = [column.data_page_offset, column.dictionary_page_offset if column.has_dictionary_page else None]
        start = min(offset for offset in starts if offset is not None and offset > 0)
        pages.check(
            self._raw.descriptor,
            pages.Chunk(name, start, column.total_compressed_size, rows, name in WORDS),
            self._held,
        )
        self._checked.add((group, name))

    def check_pages(self) -> None:
        """Of every column: for a reader that takes the whole file."""
        with _damage_in_words():
            for group in range(len(self._groups)):
                for name in COLUMNS:
                    self._check(group, name)

    def _read(self, group: int, name: str) -> Any:
        self._check(group, name)
        return self._file.read_row_group(group, columns=[name], use_threads=False).column(name)

    def count(self) -> dict[str, int]:
        """Rows by kind."""
        counts = np.zeros(len(KIND) + 1, np.int64)
        with _damage_in_words():
            for group in range(len(self._groups)):
                counts += np.bincount(self._decoded(group, "kind"), minlength=len(counts))
        return {kind: int(counts[number]) for kind, number in KIND.items()}


def column_names(path: Path) -> frozenset[str]:
    return frozenset(pq.read_schema(path).names)


def _kinds_in(group: Any) -> tuple[str, str]:
    """The first and the last kind of a row group, by its statistics."""
    for place in range(group.num_columns):
        column = group.column(place)
        if column.path_in_schema == "kind":
            found = column.statistics
            if found is not None and found.has_min_max and isinstance(found.min, str):
                return found.min, found.max
    return min(KIND), max(KIND)


@contextmanager
def _damage_in_words() -> Iterator[None]:
    try:
        yield
    except PermissionError:
        raise
    except pages.Bomb as error:
        raise Unreadable(f"it is damaged or hostile: {error}") from error
    except (pa.ArrowException, OSError, ValueError, MemoryError, OverflowError, KeyError, TypeError) as error:
        raise Unreadable(f"it is damaged ({' '.join(str(error).split())[:120]})") from error
