"""Which line of the user's source writes into weights, buffers or gradients: named if it is the only one.

A foreign write is noticed after it happened, when the frame that did it has moved on. The source is parsed after an
alarm only; nothing of it is run.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from ..incident import Place
from .operations import public_function
from .sources import BINARY, place, trees

HARMLESS = frozenset("zero_ requires_grad_ detach_ retain_grad_ share_memory_".split())


@dataclass(frozen=True)
class Write:
    op: str | None
    file: str
    line: int
    into: tuple[str, ...]  # names of the target, outermost first: net.out.weight
    without_graph: bool  # below no_grad, or through .data


def into_gradients() -> tuple[str | None, Place] | None:
    """The only line that changes a .grad."""
    return _only([write for write in _writes() if "grad" in write.into[1:]])


def into_weight(name: str) -> tuple[str | None, Place] | None:
    """The only line that writes into something of this name; else the only one that writes below no_grad."""
    leaf = name.rpartition(".")[2]
    writes = [write for write in _writes() if "grad" not in write.into]
    named = [write for write in writes if leaf in write.into[1:]]
    return _only(named or [write for write in writes if write.without_graph])


def _only(found: list[Write]) -> tuple[str | None, Place] | None:
    if len({(write.file, write.line) for write in found}) != 1:
        return None
    return found[0].op, place(found[0].file, found[0].line)


def _writes() -> Iterator[Write]:
    for file, tree in trees():
        yield from _below(tree, file, False)


def _below(node: ast.AST, file: str, free: bool) -> Iterator[Write]:
    free = free or _switches_off(node)
    found = _write(node)
    if found is not None:
        op, target = found
        into = _names(target)
        if into:
            yield Write(op, file, node.lineno, into, free or "data" in into)  # type: ignore[attr-defined]
    for child in ast.iter_child_nodes(node):
        yield from _below(child, file, free)


def _write(node: ast.AST) -> tuple[str | None, ast.expr] | None:
    """Operation and target of an in-place call, an augmented assignment, an assignment to an attribute or to a part."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        name = node.func.attr
        if name.endswith("_") and not name.endswith("__") and name not in HARMLESS:
            into_argument = node.args and "init" in _names(node.func.value)  # nn.init.normal_(weight)
            return public_function(name), node.args[0] if into_argument else node.func.value
    if isinstance(node, ast.AugAssign) and type(node.op) in BINARY:
        return BINARY[type(node.op)], node.target
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], (ast.Attribute, ast.Subscript)):
        if isinstance(node.value, ast.Constant) and node.value.value is None:
            return None
        op = BINARY.get(type(node.value.op)) if isinstance(node.value, ast.BinOp) else None
        return op, node.targets[0]
    return None


def _names(node: ast.AST) -> tuple[str, ...]:
    """net.layers[0].weight -> net, layers, weight."""
    if isinstance(node, ast.Name):
        return (node.id,)
    if isinstance(node, ast.Attribute):
        return (*_names(node.value), node.attr)
    if isinstance(node, (ast.Subscript, ast.Starred)):
        return _names(node.value)
    if isinstance(node, ast.Call):  # p.mul_(a).add_(b)
        return _names(node.func)
    return ()


def _switches_off(node: ast.AST) -> bool:
    """with torch.no_grad(): or @torch.no_grad()."""
    held: list[ast.expr] = []
    if isinstance(node, ast.With):
        held = [item.context_expr for item in node.items]
    elif isinstance(node, ast.FunctionDef):
        held = node.decorator_list
    return any({"no_grad", "inference_mode"} & set(_names(one)) for one in held)
