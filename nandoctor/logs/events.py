"""TensorBoard event files, by the optional tensorboard package; without it nothing is guessed."""

import math
import struct

from nandoctor.logs.columns import EPOCH
from nandoctor.logs.errors import no_tensorboard, unreadable_log
from nandoctor.logs.table import Log, from_records

HEAD = struct.Struct("<QI")  # of each record: length of the event, checksum of that length
LONGEST_FIRST = 1024  # bytes: the first event holds no more than the version of the format
VERSION = b"brain.Event:"


def read(path: str) -> Log:
    try:
        from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
        from tensorboard.util.tensor_util import make_ndarray
    except ImportError:
        raise no_tensorboard(path) from None
    by_step: dict[int, dict[str, float]] = {}
    try:
        for event in EventFileLoader(path).Load():
            for value in event.summary.value:
                number = _scalar(value, make_ndarray)
                if number is not None:
                    by_step.setdefault(int(event.step), {})[str(value.tag)] = number
    except Exception as error:  # protobuf, checksums, what a stranger's file brings: one way out
        raise unreadable_log(path, f"tensorboard cannot read it: {str(error)[:120]}") from None
    records = [{"step": float(step), **named} for step, named in sorted(by_step.items())]
    for record in records:  # a tag named epoch is the epoch; Lightning writes one
        if EPOCH in record and not math.isfinite(record[EPOCH]):
            del record[EPOCH]
    return from_records(records, path, "a TensorBoard event file")


def _scalar(value: object, make_ndarray: object) -> float | None:
    """One number, stored in the old way or as a tensor."""
    if value.HasField("simple_value"):  # type: ignore[attr-defined]
        return float(value.simple_value)  # type: ignore[attr-defined]
    if not value.HasField("tensor"):  # type: ignore[attr-defined]
        return None
    tensor = value.tensor  # type: ignore[attr-defined]
    if len(tensor.string_val) or any(dim.size > 1 for dim in tensor.tensor_shape.dim):
        return None
    array = make_ndarray(tensor)  # type: ignore[operator]
    return float(array.reshape(-1)[0]) if array.size == 1 and array.dtype.kind in "fiu" else None


def is_events(head: bytes) -> bool:
    """By its first record, whatever the file is called."""
    if len(head) < HEAD.size:
        return False
    length, _ = HEAD.unpack_from(head)
    return 0 < length <= LONGEST_FIRST and VERSION in head[: HEAD.size + length]
