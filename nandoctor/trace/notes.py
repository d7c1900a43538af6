"""The notes of a trace between a spool, a file's metadata and a Trace. A trace may come from a stranger."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from nandoctor.trace import spool
from nandoctor.trace.rows import LARGEST
from nandoctor.trace.schema import NO_SHAPE

Note = dict[str, Any]

MAX_BYTES = 32 << 20  # of notes in a file: other readers stop at 100 MB of metadata
KEPT_OF_A_KIND = 1000  # first and last notes of a kind that are kept when there are too many
NEEDED_BY_ROWS = ("subject", "shape")


def notes_in(folder: Path) -> list[Note]:
    """The notes of a spool; none if it has none yet."""
    if not (folder / "notes.jsonl").is_file():
        return []
    return sound(spool.read_notes(str(folder)))


def packed(notes: Iterable[Mapping[str, Any]]) -> bytes:
    """Notes as one JSON document for the file's metadata, thinned where they would not fit."""
    notes = list(notes)
    document = _encode(notes)
    if len(document) > MAX_BYTES:
        document = _encode(_thinned(notes))
    return document


def unpacked(document: bytes) -> list[Note]:
    """Raises ValueError where it is no list of notes."""
    try:
        notes = json.loads(document.decode("utf-8", "replace"), parse_int=spool.whole_number)
    except RecursionError:
        raise ValueError("its notes are nested without end") from None
    if not isinstance(notes, list):
        raise ValueError("its notes are no list")
    return sound(note for note in notes if isinstance(note, dict))


def sound(notes: Iterable[Note]) -> list[Note]:
    """Without the subject and shape notes that rows could not refer to."""
    return [note for note in notes if _is_sound(note)]


def _is_sound(note: Note) -> bool:
    kind = note.get("note")
    if kind == "subject":
        texts = [note.get("module"), note.get("tensor")]
        return _counts(note.get("id"), LARGEST) and all(text is None or isinstance(text, str) for text in texts)
    if kind == "shape":
        shape = note.get("shape")
        return _counts(note.get("id"), NO_SHAPE) and isinstance(shape, list) and all(_counts(n) for n in shape)
    return isinstance(kind, str)


def _counts(value: object, limit: int = 1 << 62) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < limit


def _encode(notes: list[Mapping[str, Any]]) -> bytes:
    return f"[{','.join(filter(None, map(_encoded, notes)))}]".encode("ascii")


def _encoded(note: Mapping[str, Any]) -> str:
    try:
        return json.dumps(note, separators=(",", ":"))
    except RecursionError:  # nested by a stranger, as deeply as could just be read
        return ""


def _thinned(notes: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The first and last of each kind that only tells what happened, and a note that says what is gone."""
    total = Counter(note.get("note") for note in notes)
    seen: Counter[Any] = Counter()
    kept: list[Mapping[str, Any]] = []
    for note in notes:
        kind = note.get("note")
        seen[kind] += 1
        if kind in NEEDED_BY_ROWS or seen[kind] <= KEPT_OF_A_KIND or seen[kind] > total[kind] - KEPT_OF_A_KIND:
            kept.append(note)
    text = f"{len(notes) - len(kept)} notes in the middle of the run were left out: more than fit into one file"
    return [*kept, {"note": "unseen", "text": text}]
