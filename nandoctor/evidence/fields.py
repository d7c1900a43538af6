"""Reads fields of notes. A trace may come from a stranger: whatever has another type counts as absent."""

import math
from collections.abc import Mapping
from typing import Any

TOO_LARGE = 2**53  # beyond this an integer of a trace is no count of anything


def whole(note: Mapping[str, Any], key: str) -> int | None:
    value = note.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if not math.isfinite(value) or abs(value) > TOO_LARGE:
        return None
    return int(value)


def words(note: Mapping[str, Any], key: str) -> str | None:
    value = note.get(key)
    return value if isinstance(value, str) else None


def truth(note: Mapping[str, Any], key: str) -> bool | None:
    value = note.get(key)
    return value if isinstance(value, bool) else None


def number(note: Mapping[str, Any], key: str) -> float | None:
    """A float; the strings "nan", "inf", "-inf" are numbers too. None where there is none."""
    value = note.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def mapping(note: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = note.get(key)
    return value if isinstance(value, Mapping) else {}


def items(note: Mapping[str, Any], key: str) -> list[Any]:
    value = note.get(key)
    return list(value) if isinstance(value, (list, tuple)) else []
