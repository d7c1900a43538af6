"""Arrow columns -> numpy, through their buffers: Arrow's own to_numpy would import pandas."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
from numpy.typing import NDArray


def numbers(column: Any, kind: str, absent: float) -> NDArray[Any]:
    """A column of numbers; `absent` where it has none (an integer column with NaN becomes floats)."""
    width = np.dtype({"double": "f8", "int64": "i8", "int32": "i4"}[kind])
    parts = [np.empty(0, width)]
    for chunk in column.chunks:
        data = chunk.buffers()[1]
        end = chunk.offset + len(chunk)
        values = np.zeros(end, width) if data is None else np.frombuffer(data, width, end)
        gone = missing(chunk)
        values = values[chunk.offset :]
        if gone.any():
            values = values.astype("f8") if absent != absent else values.copy()
            values[gone] = absent
        parts.append(values)
    return np.concatenate(parts)


def places(column: Any, ids: Mapping[str, int], absent: int) -> NDArray[np.int64]:
    """A column of words as the ids that these words have; `absent` where it has none, or an unknown word."""
    parts = [np.empty(0, np.int64)]
    for chunk in column.chunks:
        table = np.array([*(ids.get(word, absent) for word in chunk.dictionary.to_pylist()), absent], np.int64)
        at = numbers(pa.chunked_array([chunk.indices]), "int32", len(table) - 1)
        parts.append(table[np.clip(at, 0, len(table) - 1)])
    return np.concatenate(parts)


def bits(column: Any) -> NDArray[np.uint8]:
    parts = [bitmap(chunk, 1) & ~missing(chunk) for chunk in column.chunks]
    return np.concatenate([np.empty(0, np.bool_), *parts]).astype(np.uint8)


def absent(column: Any) -> NDArray[np.bool_]:
    return np.concatenate([np.empty(0, np.bool_), *(missing(chunk) for chunk in column.chunks)])


def missing(chunk: Any) -> NDArray[np.bool_]:
    if chunk.null_count == 0:
        return np.zeros(len(chunk), np.bool_)
    return ~bitmap(chunk, 0)


def bitmap(chunk: Any, buffer: int) -> NDArray[np.bool_]:
    data = chunk.buffers()[buffer]
    if data is None:
        return np.zeros(len(chunk), np.bool_)
    unpacked = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little", count=chunk.offset + len(chunk))
    return unpacked[chunk.offset :].astype(np.bool_)
