"""Functions of torch that raise where they are given NaN, and so would end the training: the NaN is mended, or passed
on to the loss, where it is dealt with. In force from the start, and silent until torch would raise.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ..causes import treatments
from ..recording.run import Run
from ..recording.stats import detach

EVEN = 0.5  # a probability of which nothing is known


def never_refused(run: Run, ledger: Any) -> None:
    def say(name: str, why: str) -> None:
        ledger.write("once", treatments.DATA, "", f"NaN in what {name} was given {why}", "torch would raise here",
                     "remove --active")  # fmt: skip

    def standing_in(places: list[Any], name: str, otherwise: Callable[..., Any], why: str) -> None:
        plain = getattr(places[0], name)

        @functools.wraps(plain)
        def called(*args: Any, **kwargs: Any) -> Any:
            try:
                return plain(*args, **kwargs)
            except RuntimeError:
                given = args[0] if args else kwargs.get("input")
                if not run.recorder.guard.on or torch.compiler.is_compiling() or not holds_bad(given):
                    raise
                result = otherwise(plain, *args, **kwargs)
            say(name, why)
            return result

        for place in places:
            setattr(place, name, called)

    drawn = "became a chance like any other"
    standing_in([torch], "multinomial", drawn_all_the_same, drawn)
    standing_in([torch.Tensor], "multinomial", drawn_all_the_same, drawn)
    standing_in([torch], "bernoulli", drawn_all_the_same, drawn)
    standing_in([functional], "binary_cross_entropy", passed_on, "makes the loss NaN")


def holds_bad(x: Any) -> bool:
    return isinstance(x, Tensor) and x.is_floating_point() and not bool(torch.isfinite(detach(x)).all())


def drawn_all_the_same(plain: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    kwargs = {**kwargs, "input": args[0]} if args else kwargs
    x = kwargs.pop("input")
    return plain(torch.where(torch.isfinite(x), x, torch.full_like(x, EVEN)), *args[1:], **kwargs)


def passed_on(plain: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    kwargs = {**kwargs, "input": args[0]} if args else kwargs
    x = kwargs.pop("input")
    mended = torch.where(torch.isfinite(x), x, torch.full_like(x, EVEN)).clamp(0, 1)
    return plain(mended, *args[1:], **kwargs) + (x - x).sum()  # NaN where x holds any
