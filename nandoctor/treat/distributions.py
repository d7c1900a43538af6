"""A distribution whose parameters are NaN would end the training with a ValueError: those entries become 0."""

import functools
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from ..causes import treatments
from ..recording.run import Run
from .mode import in_force

CHOICES = ("logits", "probs")
MASKS = frozenset(("masked_fill", "where"))


def never_nan(run: Run, ledger: Any) -> None:
    """In force from the start, and silent until torch's own check is about to refuse a NaN."""
    plain: Any = Distribution.__init__
    watched: list[Any] = []

    @functools.wraps(plain)
    def __init__(self: Any, *args: Any, validate_args: Any = None, **kwargs: Any) -> None:
        if len(args) > 2:
            validate_args, args = args[2], args[:2]
        checks = Distribution._validate_args if validate_args is None else validate_args
        if checks and run.recorder.guard.on and not torch.compiler.is_compiling():
            mended = [name for name in list(self.__dict__) if name in self.arg_constraints and mend(self, name)]
            if mended:
                more = ""
                if mended[0] in CHOICES and not watched:
                    watched.append(open_choices(run))
                    more = "; from here on a mask that forbids every choice forbids none"
                ledger.write(
                    "once", treatments.DATA, "", f"NaN in {mended[0]} of {type(self).__name__} became 0{more}",
                    "torch would raise a ValueError here", "remove --active",
                )  # fmt: skip
        plain(self, *args, validate_args=validate_args, **kwargs)

    Distribution.__init__ = __init__  # type: ignore[method-assign]


def mend(distribution: Any, name: str) -> bool:
    value = distribution.__dict__[name]
    if not isinstance(value, Tensor) or not value.is_floating_point() or not bool(torch.isnan(value).any()):
        return False
    good = torch.where(torch.isnan(value), torch.zeros_like(value), value)
    for key, held in list(distribution.__dict__.items()):
        if held is value:  # a Categorical holds its parameter under a second name
            distribution.__dict__[key] = good
    return True


def open_choices(run: Run) -> Any:
    """From then on a mask that forbids every choice of a row forbids none: so a policy learns what to do there.

    No softmax makes anything but NaN of a row of nothing but -inf. What is attended to is another matter: softmax.py.
    """

    def rule(op: str, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        result = func(*args, **kwargs)
        scores = [x for x in args if isinstance(x, Tensor) and x.is_floating_point() and x.shape == result.shape]
        if not result.is_floating_point() or result.dim() == 0 or not scores or any(x is result for x in scores):
            return result
        closed = (result == float("-inf")).all(-1, keepdim=True)
        return torch.where(closed, scores[0], result) if bool(closed.any()) else result

    return in_force(run, MASKS, rule)
