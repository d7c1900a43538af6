"""What the user's running functions hold: read after an alarm only, never kept."""

import math
import sys
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any

import torch
from torch import Tensor

from ..frames import is_user_code, user_frames, variables_of
from ..incident import Place
from ..nested import tensors
from ..run import BadTensor
from ..stats import detach, is_bad, item, measurable, word
from .births import kind_of
from .expressions import Born, born

MAX_VALUES = 2_000  # variables of one frame
MAX_FRAMES = 6


def scalars_with_graph(frame: FrameType | None) -> list[Tensor]:
    """Non-finite one-element tensors with a graph among the variables of a frame, also inside what they hold."""
    if frame is None:
        return []
    found = []
    for value in list(variables_of(frame).values())[:MAX_VALUES]:
        if isinstance(value, (Tensor, dict, tuple, list)) or hasattr(value, "loss"):
            for _, tensor in tensors(value):
                if tensor.grad_fn is not None and tensor.numel() == 1 and _bad_scalar(tensor):
                    found.append(tensor)
    return found


def bad_with_graph(frame: FrameType | None) -> list[Tensor]:
    """The variables of a frame that are bad tensors with a graph."""
    values = list(variables_of(frame).values())[:MAX_VALUES] if frame is not None else []
    return [value for value in values if isinstance(value, Tensor) and value.grad_fn is not None and is_bad(value)]


def left_behind() -> list[Tensor]:
    """Such tensors in the user's innermost functions."""
    return [tensor for frame in user_frames()[:MAX_FRAMES] for tensor in scalars_with_graph(frame)]


def at_exit(link: TracebackType | None) -> list[Tensor]:
    """Such tensors in the functions through which an uncaught exception went, and in the script itself."""
    found: list[Tensor] = []
    while link is not None:
        frame = link.tb_frame
        found = (scalars_with_graph(frame) if is_user_code(frame.f_code) else _bare_losses(frame)) + found
        link = link.tb_next
    main = sys.modules.get("__main__")
    for value in list(vars(main).values())[:MAX_VALUES] if main is not None else []:
        if isinstance(value, Tensor) and value.grad_fn is not None and value.numel() == 1 and _bad_scalar(value):
            found.append(value)
    return found


def refused(link: TracebackType | None) -> list[Tensor]:
    """Bad tensors of any size in the user's functions through which an uncaught exception went, innermost first."""
    found: list[Tensor] = []
    while link is not None:
        if is_user_code(link.tb_frame.f_code):
            found = bad_with_graph(link.tb_frame) + found
        link = link.tb_next
    return found


def _bare_losses(frame: FrameType) -> list[Tensor]:
    """A package's own guard has raised: its loss is a plain variable. What else it holds is not looked into."""
    values = [value for value in list(frame.f_locals.values())[:MAX_VALUES] if isinstance(value, Tensor)]
    return [value for value in values if value.grad_fn is not None and value.numel() == 1 and _bad_scalar(value)]


def _bad_scalar(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and not math.isfinite(item(detach(tensor)))


def bad_tensor(value: Tensor | None) -> BadTensor | None:
    """A bad tensor that came from outside the graph, under the name of the variable that holds it."""
    for _, path, tensor in bad_variables():
        return located(tensor, path)
    return None if value is None else located(value, "")


def bad_variables() -> Iterator[tuple[FrameType, str, Tensor]]:
    """(frame, path, tensor) of the bad tensors without a graph in the user's innermost functions."""
    for frame in user_frames()[:MAX_FRAMES]:
        for name, held in list(variables_of(frame).items())[:MAX_VALUES]:
            if not isinstance(held, (Tensor, dict, tuple, list)):
                continue
            for path, tensor in tensors(held, name):
                if tensor.grad_fn is None and not tensor.requires_grad and measurable(tensor) and is_bad(tensor):
                    yield frame, path, tensor


def computed(value: Tensor | None) -> Born | None:
    """The user's own arithmetic outside the graph that made this value, if a variable of its shape leads to it.

    A larger variable is the data set of which a batch was taken: what was done to it is a matter of the input.
    """
    for frame, path, tensor in bad_variables():
        if value is None or tensor.shape != value.shape:
            continue
        found = born(frame, path)
        if found is not None:
            return found
    return None


def located(tensor: Tensor, path: str) -> BadTensor:
    """Row and index within the row of the first bad element. Which line made it was not seen."""
    flat = tensor.detach().reshape(-1)
    first = int((~torch.isfinite(flat)).to(torch.uint8).argmax())
    rows = tensor.shape[0] if tensor.dim() > 0 else 1
    width = max(flat.numel() // max(rows, 1), 1)
    kind = kind_of(flat[first : first + 1])
    dtype = word(tensor.dtype)
    return BadTensor(path or None, first // width, first % width, kind, Place(), "variable", dtype)


def name_of(thing: Any) -> str:
    """The variable that holds `thing`, "" if none does."""
    for frame in user_frames()[:MAX_FRAMES]:
        for name, value in list(variables_of(frame).items())[:MAX_VALUES]:
            if value is thing:
                return name
    return ""

