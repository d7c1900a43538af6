"""Single expressions of a script: an operation kept inside its domain, inputs made finite, a loader's last batch."""

import ast
from collections.abc import Mapping
from typing import Any

from nandoctor.evidence import Evidence
from nandoctor.patching import roles
from nandoctor.patching.numbers import append_argument
from nandoctor.patching.source import Source, last_name

Wanted = Mapping[str, Any]
MODULES = ("torch", "F", "functional", "linalg")
INSIDE = {
    "log": "{}.clamp_min(1e-8)", "log2": "{}.clamp_min(1e-8)", "log10": "{}.clamp_min(1e-8)",
    "log1p": "{}.clamp_min(-1 + 1e-6)", "sqrt": "{}.clamp_min(1e-12)", "rsqrt": "{}.clamp_min(1e-12)",
    "acos": "{}.clamp(-1 + 1e-6, 1 - 1e-6)", "asin": "{}.clamp(-1 + 1e-6, 1 - 1e-6)",
    "atanh": "{}.clamp(-1 + 1e-6, 1 - 1e-6)", "exp": "{}.clamp_max(20)", "pow": "{}.clamp_min(1e-12)",
    "logit": "{}.clamp(1e-6, 1 - 1e-6)", "norm": "({} + 1e-12)", "reciprocal": "{}.clamp_min(1e-8)",
}  # fmt: skip


def drop_last(source: Source, e: Evidence, wanted: Wanted) -> bool:
    """The loaders that shuffle are those of training; where none does, the first one."""
    loaders = source.calls("DataLoader")
    training = [call for call in loaders if any(k.arg == "shuffle" and _true(k.value) for k in call.keywords)]
    done = False
    for call in training or loaders[:1]:
        known = next((k for k in call.keywords if k.arg == "drop_last"), None)
        if known is not None:
            done = (not _true(known.value) and source.swap(known.value, "True")) or done
        else:
            done = append_argument(source, call, "drop_last=True") or done
    return done


def _true(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is True


def at_line(source: Source, wanted: Wanted) -> list[ast.expr]:
    """Expressions on the line that a trace names, if it names this file."""
    line, file = wanted.get("line"), wanted.get("file")
    if not isinstance(line, int) or not isinstance(file, str) or not source.name.endswith(file.rpartition("/")[2]):
        return []
    inside = [n for n in ast.walk(source.tree) if isinstance(n, ast.expr)]
    return [n for n in inside if n.lineno <= line <= (n.end_lineno or n.lineno)]


def operand(op: str, node: ast.expr) -> ast.expr | None:
    """Of torch.log(x), x.log(), x ** p and x.pow(p)."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow) and op == "pow":
        return node.left
    if not isinstance(node, ast.Call) or last_name(node.func) != op:
        return None
    if isinstance(node.func, ast.Attribute) and last_name(node.func.value) not in MODULES:
        return node.func.value
    return node.args[0] if node.args else None


def operation(source: Source, e: Evidence, wanted: Wanted) -> bool:
    op = str(wanted.get("op") or "")
    for node in at_line(source, wanted):
        if op == "div" and isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            return source.swap(node.right, f"{_bracketed(source, node.right)}.clamp_min({_least(e)})")
        x = operand(op, node)
        if x is not None and op in INSIDE:
            return source.swap(x, INSIDE[op].format(_bracketed(source, x)))
    return False


def _least(e: Evidence) -> str:
    """A count is at least 1, a size a little above 0."""
    other = e.bad.operand("other") if e.bad is not None else None
    if other is not None and (other.dtype.startswith("int") or other.high >= 1 and other.high == int(other.high)):
        return "1"
    return "1e-8"


def _bracketed(source: Source, node: ast.expr) -> str:
    text = source.part(node)
    return text if isinstance(node, (ast.Name, ast.Attribute, ast.Call, ast.Subscript)) else f"({text})"


def open_rows(source: Source, e: Evidence, wanted: Wanted) -> bool:
    """Rows of nothing but -inf are given zeros before the softmax."""
    for node in at_line(source, wanted):
        for op in ("softmax", "log_softmax"):
            x = operand(op, node)
            if x is None or not isinstance(node, ast.Call):
                continue
            text = _bracketed(source, x)
            dims = [k.value for k in node.keywords if k.arg == "dim"] or node.args[len(node.args) - 1 :]
            dim = source.part(dims[0]) if dims and dims[0] is not x else "-1"
            return source.swap(x, f"{text}.masked_fill(torch.isneginf({text}).all({dim}, keepdim=True), 0.0)")
    return False


def wider(source: Source, e: Evidence, wanted: Wanted) -> bool:
    """float16 becomes bfloat16, whose range is that of float32, wherever it is named; a cast becomes float()."""
    done = False
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Attribute) and node.attr in ("float16", "half") and last_name(node.value) == "torch":
            done = source.swap(node, f"{source.part(node.value)}.bfloat16") or done
    for node in at_line(source, wanted):
        if isinstance(node, ast.Call) and last_name(node.func) == "half" and isinstance(node.func, ast.Attribute):
            done = source.swap(node, f"{source.part(node.func.value)}.float()") or done
            break
    return done


def scaler_defaults(source: Source, e: Evidence, wanted: Wanted) -> bool:
    """A GradScaler as torch makes it, and update() that follows it."""
    done = False
    for call in source.calls("GradScaler"):
        if call.keywords:
            kept = ", ".join(source.part(argument) for argument in call.args)
            done = source.swap(call, f"{source.part(call.func)}({kept})") or done
    scalers = roles.scalers(source)
    for call in source.calls("update"):
        if call.args and isinstance(call.func, ast.Attribute) and source.part(call.func.value) in scalers:
            done = source.swap(call, f"{source.part(call.func)}()") or done
    return done
