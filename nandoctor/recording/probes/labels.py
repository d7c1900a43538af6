"""Whole-number targets that the loss was computed with, wherever they came from: read from what its graph saved."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from ..autopsy.values import packed, unpacked
from ..looks import looking
from ..run import Run
from ..stats import is_countable, measure_integers

NEAR = 24  # graph nodes from the loss down: targets are used close to it
SAVED = {  # node -> the tensor that holds classes
    "NllLossBackward0": "target",
    "NllLoss2DBackward0": "target",
    "GatherBackward0": "index",
    "IndexBackward0": "indices",
}


def look(run: Run, loss: Tensor) -> None:
    """A labels row for each such tensor, at a look. Places below 0 in an index count from the end."""
    recorder = run.recorder
    if not looking(recorder) or loss.grad_fn is None:
        return
    for name, tensor, ignored in _targets(loss.grad_fn):
        if is_countable(tensor):
            low, high, _ = measure_integers(tensor)
            count = float((tensor == ignored).sum()) if ignored is not None else 0.0
            if ignored is not None and low == ignored:
                kept = tensor[tensor != ignored]
                low = float(kept.min()) if kept.numel() else float(ignored)
            recorder.add("labels", recorder.subject(name, "loss"), (low, high, count), tensor)


def near(root: Any) -> Iterator[Any]:
    """Nodes of the graph from the loss down."""
    seen, todo = {root}, [root]
    while todo and len(seen) < NEAR:
        node = todo.pop(0)
        yield node
        for below, _ in node.next_functions:
            if below is not None and below not in seen:
                seen.add(below)
                todo.append(below)


def _targets(root: Any) -> Iterator[tuple[str, Tensor, int | None]]:
    for node in near(root):
        field = SAVED.get(node.name())
        if field is not None and not packed(node, field):
            saved = unpacked(node, field)
            ignored = getattr(node, "_saved_ignore_index", None)
            for tensor in saved if isinstance(saved, (tuple, list)) else [saved]:
                if isinstance(tensor, Tensor):
                    yield node.name().removesuffix("Backward0"), tensor, _signed(ignored)


def _signed(value: Any) -> int | None:
    """autograd hands out a negative ignore_index as an unsigned number."""
    if not isinstance(value, int):
        return None
    return value - 2**64 if value >= 2**63 else value
