"""A named operation is kept inside its domain, at the line that made the first bad value, or wherever one leaves it."""

import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..causes import treatments
from ..evidence import Bad
from .applied import Applied, Case
from .mode import in_force, user_line

TINY, SMALL = 1e-12, 1e-8  # under a root; under a logarithm or as a divisor: unsafe_op.KEEP_INSIDE
INSIDE = 1e-6  # how far from the edge where a derivative is infinite
LARGEST_EXP = {torch.float16: 10.0, torch.float32: 80.0, torch.bfloat16: 80.0, torch.float64: 700.0}
LOGS = frozenset(("log", "log2", "log10"))
ARCS = frozenset(("acos", "asin", "arccos", "arcsin", "atanh", "arctanh"))
EXPS = frozenset(("exp", "exp2", "expm1", "sinh", "cosh"))
DIVISIONS = frozenset(("div", "rdiv", "divide", "reciprocal", "remainder", "fmod"))
SAME = {"div": DIVISIONS, "reciprocal": DIVISIONS, "norm": frozenset(("norm", "vector_norm", "linalg_norm")),
        "xlogy": LOGS, "pow": frozenset(("pow", "rpow", "square", "float_power")),
        "std": frozenset(("std", "var")), "var": frozenset(("std", "var"))}  # fmt: skip
EVERY = LOGS | ARCS | EXPS | DIVISIONS | frozenset(("std", "var", "sqrt", "rsqrt", "log1p", "logit", "pow"))
AS_DATA = LOGS | frozenset(("log1p", "rsqrt", "reciprocal"))
FLOATS16 = (torch.float16, torch.bfloat16)


def at_its_line(bad: Bad) -> Callable[[], bool]:
    """Whether the user's program stands where the value was born; anywhere, if that is not known."""
    if bad.file is None or bad.line is None:
        return lambda: True
    name, line = os.path.basename(bad.file), bad.line

    def here() -> bool:
        place = user_line()
        # a statement may go over several lines: Python names the first or the one of the call
        return place is not None and os.path.basename(place[0]) == name and abs(place[1] - line) <= 2

    return here


def inside(case: Case) -> Applied | None:
    bad = case.evidence.bad
    if bad is None or bad.op is None:
        return None
    ops = SAME.get(bad.op, LOGS if bad.op in LOGS else frozenset((bad.op,)))
    here = at_its_line(bad)

    def rule(op: str, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return kept_inside(op, func, args, kwargs) if here() else func(*args, **kwargs)

    stop = in_force(case.run, ops, rule)
    if stop is None:
        return None
    place = f" at {bad.file}:{bad.line}" if bad.file and bad.line else ""
    return Applied(
        treatments.OPERATIONS, f"{bad.op}{place} is kept inside its domain",
        "remove --active; to keep it, change the line",
        {"kind": "operation", "op": bad.op, "file": bad.file, "line": bad.line}, back=back_of(case), stop=stop,
    )  # fmt: skip


def back_of(case: Case) -> Any:
    """A value that was never applied has harmed nothing; one that came of a drift has."""
    return "onset" if case.evidence.onset.run_up >= 2 else ""


def kept_inside(op: str, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    x = args[0] if args and isinstance(args[0], Tensor) and args[0].is_floating_point() else None
    if op in ("div", "rdiv", "divide"):
        return divided(op, func, args, kwargs)
    if op in ("std", "var"):
        return spread(func, args, kwargs)
    if x is None:
        return func(*args, **kwargs)
    if op in AS_DATA and not x.requires_grad:
        return as_data(op, func, args, kwargs)
    if op in LOGS:
        x = x.clamp_min(SMALL if x.dtype not in FLOATS16 else 1e-4)
    elif op == "log1p":
        x = x.clamp_min(-1 + INSIDE)
    elif op in ("sqrt", "rsqrt"):
        x = x.clamp_min(TINY if x.dtype not in FLOATS16 else INSIDE)
    elif op == "reciprocal":
        x = torch.where(x == 0, torch.full_like(x, SMALL), x)
    elif op in ARCS:
        x = x.clamp(-1 + INSIDE, 1 - INSIDE)
    elif op in EXPS:
        x = x.clamp_max(LARGEST_EXP.get(x.dtype, 80.0))
    elif op == "logit":
        x = x.clamp(INSIDE, 1 - INSIDE)
    elif op in ("pow", "float_power"):
        x = torch.where(x == 0, torch.full_like(x, SMALL), x)
        x = x.clamp_min(SMALL) if _fraction(args, kwargs) else x
    elif op in ("norm", "vector_norm", "linalg_norm"):
        x = torch.where(x == 0, torch.full_like(x, TINY), x)
    elif op == "mean" and x.numel() == 0:
        return x.sum()
    elif op == "ctc_loss":
        return func(*args, **{**kwargs, "zero_infinity": True})
    return func(x, *args[1:], **kwargs)


def as_data(op: str, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Nothing is learned through it: what is outside is worth as much as the least inside; a share of nothing is 0."""
    result = func(*args, **kwargs)
    outside = ~torch.isfinite(result)
    if op in ("rsqrt", "reciprocal") or not bool(outside.any()) or bool(outside.all()):
        return result.masked_fill(outside, 0.0)
    return result.masked_fill(outside, float(result[~outside].min()))


def _fraction(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    exponent = kwargs.get("exponent", args[1] if len(args) > 1 else 1)
    return isinstance(exponent, Tensor) or float(exponent) != int(exponent)


def divided(op: str, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Where the divisor is exactly 0 the quotient is 0: a mean over nothing, a share of nothing."""
    place = 0 if op == "rdiv" else 1
    divisor = args[place] if len(args) > place else None
    if not isinstance(divisor, Tensor):
        return func(*args, **kwargs)
    empty = divisor == 0
    if not bool(empty.any()):
        return func(*args, **kwargs)
    safe = torch.where(empty, torch.ones_like(divisor), divisor)
    given = list(args)
    given[place] = safe
    result = func(*given, **kwargs)
    return torch.where(empty, torch.zeros_like(result), result)


def spread(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Over one element: 0, not 0 / 0. The root of 0 has no gradient, hence the tiny number."""
    result = func(*args, **kwargs)
    if bool(torch.isfinite(result).all()):
        return result
    given = {key: value for key, value in kwargs.items() if key not in ("unbiased", "correction")}
    dims = [value for value in args[1:] if isinstance(value, (int, tuple, list)) and not isinstance(value, bool)]
    return torch.var(args[0], *dims[:1], correction=0, **given).add(TINY).sqrt()
