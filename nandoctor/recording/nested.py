"""The tensors inside what people pass around: tuples, lists, dicts, dataclasses, ModelOutput, named tuples."""

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor

from .stats import local

MAX_TENSORS = 64  # of one batch or output; a list of thousands (a graph data set) is sampled by its first ones
MAX_DEPTH = 6


def tensors(value: Any, path: str = "", depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    """(dotted path, tensor) pairs, in order; "" for a bare tensor. Reads fields, never calls user code."""
    if isinstance(value, Tensor):
        yield path, local(value)
        return
    if depth > MAX_DEPTH or value is None or isinstance(value, (str, bytes, int, float)):
        return
    if isinstance(value, (tuple, list)):  # first: to ask whether something is a Mapping takes a microsecond
        names = getattr(value, "_fields", None) or range(len(value))
        pairs: Any = zip(names, value[:MAX_TENSORS] if isinstance(value, list) else value, strict=False)
    elif isinstance(value, Mapping):
        pairs = list(value.items())[:MAX_TENSORS]
    elif is_dataclass(value) and not isinstance(value, type):
        pairs = [(field.name, value.__dict__.get(field.name)) for field in fields(value) if hasattr(value, "__dict__")]
    else:
        pairs = [(k, v) for k, v in getattr(value, "__dict__", {}).items() if isinstance(v, Tensor)][:MAX_TENSORS]
    for key, item in pairs:
        if type(item) is Tensor:
            yield f"{path}.{key}" if path else str(key), item
            continue
        yield from tensors(item, f"{path}.{key}" if path else str(key), depth + 1)
