"""Where half precision overflows, float32 is computed: a named operation, all of them, or whichever overflows."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ..causes import treatments
from ..evidence import Bad
from .applied import Applied, Case
from .mode import Rule, in_force
from .operations import EVERY, FLOATS16, SAME, at_its_line, back_of, kept_inside

EARLY = 100  # steps that are given up to begin again
CASTS = frozenset(("to", "half", "type"))


def widened(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.float() if value.dtype in FLOATS16 else value
    if type(value) in (list, tuple):
        return type(value)(widened(item) for item in value)
    return value


def in_float32(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The same call on float32 copies, outside of autocast."""
    device = next((a.device.type for a in args if isinstance(a, Tensor)), "cpu")
    with torch.autocast(device, enabled=False):
        return func(*widened(args), **{key: widened(value) for key, value in kwargs.items()})


def tolerant(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What is float32 now meets what is half: torch refuses before it computes anything."""
    try:
        return func(*args, **kwargs)
    except RuntimeError as error:
        if "dtype" not in str(error) and "scalar type" not in str(error):
            raise
        return in_float32(func, args, kwargs)


NOT_COMPUTED = frozenset(  # hand a tensor on, or are not about its values
    ("", "to", "half", "float", "type", "bfloat16", "backward", "detach", "item", "dtype", "shape", "size", "view",
     "reshape", "__get__", "__set__", "requires_grad_", "copy_", "set_data", "is_floating_point", "dim", "numel")
)  # fmt: skip


def island(case: Case) -> Applied | None:
    """The operation that overflowed, at its line, and everything that its result meets."""
    bad = case.evidence.bad
    if bad is None or bad.op is None or bad.phase not in ("forward", "loss"):
        return None
    here, ops = at_its_line(bad), SAME.get(bad.op, frozenset((bad.op,)))

    def rule(op: str, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if op in ops and here():
            return in_float32(func, args, kwargs)
        return func(*args, **kwargs) if op in NOT_COMPUTED else tolerant(func, args, kwargs)

    place = f" at {bad.file}:{bad.line}" if bad.file and bad.line else ""
    return _islands(case, rule, f"{bad.op}{place} runs in float32", bad)


def everywhere(case: Case) -> Applied | None:
    def rule(op: str, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if op in ("half", "bfloat16"):
            return args[0].float()
        if op in NOT_COMPUTED:
            return func(*args, **kwargs)
        return in_float32(func, args, kwargs)

    return _islands(case, rule, "every operation of the forward pass runs in float32", case.evidence.bad)


def _islands(case: Case, rule: Rule, what: str, bad: Bad | None) -> Applied | None:
    stop = in_force(case.run, None, rule)
    if stop is None:
        return None
    return Applied(
        treatments.AMP_ORDER, what, "remove --active; to keep it, leave autocast for this part",
        {"kind": "float32", "op": bad.op if bad else None, "file": bad.file if bad else None,
         "line": bad.line if bad else None, "layer": bad.layer if bad else None}, back=back_of(case), stop=stop,
    )  # fmt: skip


# --- whichever operation it is ---------------------------------------------------------------------------------
def anywhere(case: Case) -> Applied | None:
    """Any operation, wherever in the program, that makes NaN or Inf of finite numbers: in float32, else guarded."""
    if case.evidence.bad is None:
        return None

    def rule(op: str, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        result = in_range(op, func, args, kwargs)
        if op in EVERY and isinstance(result, Tensor) and bad(result) and not any(map(bad, tensors_in(args))):
            return kept_inside(op, func, args, kwargs)
        return result

    stop = in_force(case.run, None, rule)
    if stop is None:
        return None
    return Applied(
        treatments.OPERATIONS, "every operation that makes NaN or Inf of finite numbers is kept inside its domain",
        "remove --active; to keep it, guard the line", {"kind": "operation"}, back=back_of(case), stop=stop,
    )  # fmt: skip


def where_it_overflows(case: Case) -> Applied | None:
    """An Inf of which a later operation made 0 (1 / Inf) reaches no loss: only a look at each result shows it."""
    stop = in_force(case.run, None, in_range)
    if stop is None:
        return None
    return Applied(
        treatments.AMP_ORDER, "every operation whose half-precision result overflows runs in float32",
        "remove --active; to keep it, leave autocast for this part", {"kind": "float32"},
        back="start" if case.run.recorder.step < EARLY else "", stop=stop,
    )  # fmt: skip


def in_range(op: str, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The call; once more in float32 if float16 cannot hold what it makes of finite numbers."""
    if op in CASTS:
        result = func(*args, **kwargs)
        too_large = isinstance(result, Tensor) and result.dtype is torch.float16 and bad(result)
        return args[0] if too_large and isinstance(args[0], Tensor) and not bad(args[0]) else result
    if op in NOT_COMPUTED:
        return func(*args, **kwargs)
    result = tolerant(func, args, kwargs)
    halves = [x for x in tensors_in(result) if x.dtype is torch.float16]
    if not any(map(bad, halves)) or any(map(bad, tensors_in((args, tuple(kwargs.values()))))):
        return result
    if any(x is given for x in halves for given in tensors_in(args)):
        return result  # it wrote into what it was given
    wide = in_float32(func, args, kwargs)
    return result if any(map(bad, tensors_in(wide))) else wide


def tensors_in(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from tensors_in(item)


def bad(x: Tensor) -> bool:
    return x.is_floating_point() and x.layout is torch.strided and not bool(torch.isfinite(x).all())
