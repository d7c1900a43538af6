"""The pages of a Parquet column, walked before Arrow reads them: what they claim to become must fit the file.

Arrow believes the sizes that stand in a page's header: 100 bytes can ask for 2 GB, or for 10^9 dictionary entries.
Standard library only; page headers are Thrift's compact protocol.
"""

import os
from dataclasses import dataclass

HEADER_BYTES = (256, 1 << 16)  # of one page's header: tried in this order; ours have 40
WIDEST = 16  # bytes that one value of a number, or one place in a dictionary, can take
PAGE_SLACK = 1 << 16  # bytes of levels and padding that a page may have beside its values
TEXT_BYTES = 16 << 20  # that a dictionary of texts may unpack to: sixteen names of 1 MB
TEXT_RATIO = 64  # and as many a byte of the whole file
FOOTER_BYTES = 128 << 20  # our notes have 32 MB at most
DATA_PAGE, INDEX_PAGE, DICTIONARY_PAGE, DATA_PAGE_2 = range(4)
STOP, TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(13)
DEEPEST = 8  # structures inside a page header: statistics are the second


class Bomb(ValueError):
    """What a column claims and cannot hold, in words."""


@dataclass(frozen=True)
class Chunk:
    """One column of one row group, by the file's footer."""

    name: str
    start: int
    length: int  # bytes in the file
    rows: int
    texts: bool


def bytes_held(path: str | os.PathLike[str]) -> int:
    """Of a file with holes only what is there: a sparse file of 50 GB holds next to nothing."""
    status = os.stat(path)
    blocks = getattr(status, "st_blocks", 0)
    return min(status.st_size, blocks * 512) if blocks else min(status.st_size, 1 << 16)


def check(descriptor: int, chunk: Chunk, held: int) -> None:
    """Raises Bomb where this column cannot be read in memory that is in proportion to the file."""
    at, end, values = chunk.start, chunk.start + chunk.length, 0
    if chunk.start < 4 or chunk.length < 0 or chunk.rows < 0:
        raise Bomb(f"its column {chunk.name} lies nowhere")
    while at < end and values < chunk.rows:
        page, size = _page(descriptor, at, chunk.name)
        at += size + page.packed
        values += page.values if page.kind in (DATA_PAGE, DATA_PAGE_2) else 0
        most = WIDEST * page.values + PAGE_SLACK
        if page.kind == DICTIONARY_PAGE and page.values > chunk.rows:
            raise Bomb(f"its column {chunk.name} has {page.values} words for {chunk.rows} rows")
        if chunk.texts:
            most += max(TEXT_BYTES, TEXT_RATIO * held)
        if page.unpacked > most:
            raise Bomb(f"a page of its column {chunk.name} unpacks to {page.unpacked} bytes")
    if at > end:
        raise Bomb(f"a page of its column {chunk.name} ends beyond it")
    if values != chunk.rows:
        raise Bomb(f"its column {chunk.name} holds {values} of {chunk.rows} rows")


@dataclass(frozen=True)
class _Page:
    kind: int
    unpacked: int
    packed: int
    values: int


def _page(descriptor: int, at: int, name: str) -> tuple[_Page, int]:
    """A page's header, and the bytes that it takes."""
    fields: dict[int, object] = {}
    end = 0
    for size in HEADER_BYTES:
        os.lseek(descriptor, at, os.SEEK_SET)
        reader = _Reader(os.read(descriptor, size))
        try:
            fields, end = reader.structure(0), reader.at
            break
        except IndexError:
            continue
    numbers = [fields.get(number) for number in (1, 2, 3)]
    inner = next((found for number in (5, 7, 8) if isinstance(found := fields.get(number), dict)), {})
    values = inner.get(1, 0)
    if not all(isinstance(number, int) and 0 <= number < 1 << 31 for number in (*numbers, values)):
        raise Bomb(f"a page of its column {name} has no header")
    kind, unpacked, packed = (number for number in numbers if isinstance(number, int))
    assert isinstance(values, int)
    return _Page(kind, unpacked, packed, values), end


class _Reader:
    """Thrift's compact protocol, as far as page headers use it. IndexError at the end of the data."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def structure(self, depth: int) -> dict[int, object]:
        """Whole numbers and structures by field number; the rest is passed over."""
        found: dict[int, object] = {}
        number = 0
        while depth < DEEPEST:
            head = self._byte()
            if head == STOP:
                return found
            number = number + (head >> 4) if head >> 4 else self._signed()
            found[number] = self._value(head & 15, depth)
        raise IndexError

    def _value(self, kind: int, depth: int) -> object:
        if kind in (I16, I32, I64):
            return self._signed()
        if kind == STRUCT:
            return self.structure(depth + 1)
        if kind == BINARY:
            self._skip(self._unsigned())
        elif kind in (BYTE, DOUBLE):
            self._skip(1 if kind == BYTE else 8)
        elif kind not in (TRUE, FALSE):  # page headers hold no lists, sets or maps
            raise IndexError
        return None

    def _byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1]

    def _skip(self, count: int) -> None:
        self.at += count
        if self.at > len(self.data):
            raise IndexError

    def _unsigned(self) -> int:
        found = 0
        for shift in range(0, 70, 7):
            byte = self._byte()
            found |= (byte & 127) << shift
            if byte < 128:
                return found
        raise IndexError

    def _signed(self) -> int:
        found = self._unsigned()
        return (found >> 1) ^ -(found & 1)
