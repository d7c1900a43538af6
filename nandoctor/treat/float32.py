"""Where half precision overflows, float32 is computed: a named operation, all of them, or whichever overflows."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ..causes import treatments
from ..evidence import Bad
from . import softmax
from .applied import Applied, Case
from .mode import Rule, in_force
from .operations import EVERY, FLOATS16, SAME, at_its_line, back_of, kept_inside

EARLY = 100  # steps that are given up to begin again
FILLS = frozenset(("zeros", "zeros_like", "new_zeros", "ones", "full", "full_like", "empty", "empty_like", "new_empty"))
WIDE = torch.float32
SMALLEST = 2.0**-14  # below it float16 loses digits: what is no larger anywhere is as good as flushed to 0
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
     "reshape", "get", "set", "grad", "zero", "clone", "is_leaf", "retain_grad", "register_hook", "stride", "is_sparse",
     "element_size", "is_complex", "is_contiguous", "storage", "untyped_storage", "data_ptr",
     "requires_grad_", "copy_", "set_data", "is_floating_point", "dim", "numel")
)  # fmt: skip


def island(case: Case) -> Applied | None:
    """The operation that overflowed, at its line, and everything that its result meets."""
    bad = case.evidence.bad
    if bad is None or bad.op is None or bad.phase not in ("forward", "loss"):
        return None
    here, ops = at_its_line(bad), SAME.get(bad.op, frozenset((bad.op,)))
    fills = {"half": False}  # the operation writes into a half tensor, which is to be made wide from the beginning

    def rule(op: str, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if op in ops and here():
            if not in_place(func) or not args or not isinstance(args[0], Tensor) or args[0].dtype not in FLOATS16:
                return in_float32(func, args, kwargs)
            fills["half"] = True
        elif fills["half"] and op in FILLS:
            return func(*widened(args), **{key: WIDE if value in FLOATS16 else value for key, value in kwargs.items()})
        return func(*args, **kwargs) if op in NOT_COMPUTED else tolerant(func, args, kwargs)

    place = f" at {bad.file}:{bad.line}" if bad.file and bad.line else ""
    return _islands(case, rule, f"{bad.op}{place} runs in float32", bad)


def in_place(func: Any) -> bool:
    name = str(getattr(func, "__name__", ""))
    return name.endswith("_") and not name.endswith("__") or name.startswith("__i") and name.endswith("__")


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
        if op in NOT_COMPUTED and op not in CASTS:
            return func(*args, **kwargs)
        if op in softmax.ATTENTION:
            return func(*args, **{**kwargs, **softmax.opened_masks(kwargs)})
        if op in softmax.SOFTMAXES:
            return softmax.opened(op, func, args, kwargs)
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


def where_it_flushes(case: Case) -> Applied | None:
    """A half-precision result that has lost all digits: of what was not 0, nothing is left."""

    def rule(op: str, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        result = in_range(op, func, args, kwargs)
        if not isinstance(result, Tensor) or result.dtype is not torch.float16 or not result.numel() or in_place(func):
            return result
        if op in NOT_COMPUTED - CASTS or not float(result.abs().max()) < SMALLEST:
            return result
        given = [x for x in tensors_in(args) if x.is_floating_point() and x.numel()]
        if not given or not all(float(x.abs().max()) > 0 for x in given):
            return result
        return given[0] if op in CASTS else in_float32(func, args, kwargs)

    stop = in_force(case.run, None, rule)
    if stop is None:
        return None
    return Applied(
        treatments.AMP_ORDER, "every operation whose half-precision result overflows or is flushed runs in float32",
        "remove --active; to keep it, leave autocast for this part", {"kind": "float32"}, back="start", stop=stop,
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
