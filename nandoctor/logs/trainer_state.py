"""Hugging Face's trainer_state.json: its log_history; and other JSON that is a list of records."""

import json
from typing import Any

from nandoctor.logs.errors import unreadable_log
from nandoctor.logs.table import Log, Record, Said, from_records

HISTORY = "log_history"


def read(text: str, path: str) -> Log:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = "it is nested without end" if isinstance(error, RecursionError) else f"no JSON: {str(error)[:120]}"
        raise unreadable_log(path, reason) from None
    of_trainer = isinstance(document, dict) and isinstance(document.get(HISTORY), list)
    history = document[HISTORY] if of_trainer else document
    if isinstance(history, dict):
        records = _from_lists(history)
    elif isinstance(history, list):
        records = [_record(entry) for entry in history if isinstance(entry, dict)]
    else:
        raise unreadable_log(path, "it is JSON, but neither a log_history nor a list of records")
    size = document.get("train_batch_size") if isinstance(document, dict) else None
    said = Said(batch_size=size if isinstance(size, int) else None, filtered=of_trainer)
    return from_records(records, path, "Hugging Face's trainer_state.json" if of_trainer else "a history in JSON", said)


def _record(entry: dict[Any, Any]) -> Record:
    return {str(name): value for name, cell in entry.items() if (value := _number(cell)) is not None}


def _from_lists(history: dict[Any, Any]) -> list[Record]:
    """Keras's History, and its like: a list of numbers under each name."""
    columns = {str(name): cells for name, cells in history.items() if isinstance(cells, list)}
    rows = max((len(cells) for cells in columns.values()), default=0)
    return [_record({name: cells[n] for name, cells in columns.items() if n < len(cells)}) for n in range(rows)]


def _number(cell: object) -> float | None:
    """Numbers, and the strings that newer versions write for them."""
    if isinstance(cell, bool) or not isinstance(cell, (int, float, str)):
        return None
    try:
        return float(cell)
    except (ValueError, OverflowError):
        return None


def is_json(text: str) -> bool:
    """One document; lines of JSON, one a record, read as text."""
    start = text.lstrip("\ufeff \t\r\n")[:1]
    if start not in ("{", "["):
        return False
    first = text.lstrip("\ufeff \t\r\n").partition("\n")[0].strip()
    try:
        return not isinstance(json.loads(first), dict) or "\n" not in text.strip()
    except ValueError:
        return start == "[" or HISTORY in text or first in ("{", "[")
    except RecursionError:
        return True
