"""A distribution whose parameters are NaN would end the training with a ValueError: those entries become 0."""

import functools
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from ..causes import treatments
from ..recording.run import Run


def never_nan(run: Run, ledger: Any) -> None:
    """In force from the start, and silent until torch's own check is about to refuse a NaN."""
    plain: Any = Distribution.__init__

    @functools.wraps(plain)
    def __init__(self: Any, *args: Any, validate_args: Any = None, **kwargs: Any) -> None:
        if len(args) > 2:
            validate_args, args = args[2], args[:2]
        checks = Distribution._validate_args if validate_args is None else validate_args
        if checks and run.recorder.guard.on and not torch.compiler.is_compiling():
            mended = [name for name in list(self.__dict__) if name in self.arg_constraints and mend(self, name)]
            if mended:
                ledger.write(
                    "once", treatments.DATA, "", f"NaN in {mended[0]} of {type(self).__name__} became 0",
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
