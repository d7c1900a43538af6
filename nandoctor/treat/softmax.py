"""A softmax over a row of nothing but -inf gives zeros instead of NaN; on request, scores are squeezed to [-10, 10]."""

from typing import Any

import torch
from torch import Tensor

from ..causes import treatments
from .applied import Applied, Case
from .mode import in_force

SOFTMAXES = frozenset(("softmax", "log_softmax", "softmin", "logsumexp", "cross_entropy"))
ATTENTION = frozenset(("multi_head_attention_forward",))
LIMIT = 10.0  # nan-guide


def open_rows(case: Case) -> Applied | None:
    def rule(op: str, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if op in ATTENTION:
            return func(*args, **{**kwargs, **opened_masks(kwargs)})
        return opened(op, func, args, kwargs)

    stop = in_force(case.run, SOFTMAXES | ATTENTION, rule)
    if stop is None:
        return None
    bad = case.evidence.bad
    return Applied(
        treatments.ATTENTION_LOGITS, "a softmax row that is masked entirely gives zeros",
        "remove --active; to keep it, leave one place open in every row",
        {"kind": "mask", "file": bad.file if bad else None, "line": bad.line if bad else None}, stop=stop,
    )  # fmt: skip


def dimension(args: tuple[Any, ...], kwargs: dict[str, Any], x: Tensor) -> Any:
    found = kwargs.get("dim", args[1] if len(args) > 1 else None)
    return found if isinstance(found, (int, tuple, list)) else (x.dim() - 1)


def opened(op: str, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    x = args[0] if args else kwargs.get("input")
    if not isinstance(x, Tensor) or not x.is_floating_point() or x.dim() == 0:
        return func(*args, **kwargs)
    dim = dimension(args, kwargs, x) if op != "cross_entropy" else (1 if x.dim() > 1 else 0)
    closed = (x == float("-inf")).all(dim, keepdim=True) if isinstance(dim, int) else None
    if closed is None or not bool(closed.any()):
        return func(*args, **kwargs)
    x = x.masked_fill(closed, 0.0)
    if args:
        result = func(x, *args[1:], **kwargs)
    else:
        result = func(**{**kwargs, "input": x})
    if op == "softmax":
        return result.masked_fill(closed, 0.0)
    return result


def opened_masks(kwargs: dict[str, Any]) -> dict[str, Any]:
    """multi_head_attention_forward: a row that may see nothing may see everything; nobody reads what it sees."""
    found: dict[str, Any] = {}
    for name in ("key_padding_mask", "attn_mask"):
        mask = kwargs.get(name)
        if not isinstance(mask, Tensor):
            continue
        hidden = mask if mask.dtype is torch.bool else mask == float("-inf")
        closed = hidden.all(-1, keepdim=True)
        if bool(closed.any()):
            found[name] = mask.masked_fill(closed, False if mask.dtype is torch.bool else 0.0)
    return found


def squeezed(case: Case) -> Applied | None:
    """Changes what the model computes, so only where the user has asked for this treatment by its name."""
    if case.cause == "masked-softmax":
        return open_rows(case)
    if not case.asked:
        return None

    def rule(op: str, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        x = args[0] if args else None
        if isinstance(x, Tensor) and x.is_floating_point() and x.dim() >= 3:
            masked = x == float("-inf")
            return opened(op, func, (x.clamp(-LIMIT, LIMIT).masked_fill(masked, float("-inf")), *args[1:]), kwargs)
        return func(*args, **kwargs)

    stop = in_force(case.run, frozenset(("softmax",)), rule)
    if stop is None:
        return None
    return Applied(
        treatments.ATTENTION_LOGITS, "scores are squeezed to [-10, 10] before softmax", "remove --active",
        {"kind": "logits"}, back="onset", stop=stop,
    )  # fmt: skip
