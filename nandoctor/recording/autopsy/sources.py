"""The line of an operation in code whose lines were never noted: read from the user's source, if only one line is left.

A branch that runs for the first time as it bears the value, a graph of another shape, a checkpointed block: the line
map knows nothing of it. The source is parsed after an alarm only; nothing of it is run. Where two lines can be meant
nothing is said.
"""

import ast
import functools
import linecache
import sys
from collections.abc import Container, Iterator
from typing import Any

from torch import nn

from ..frames import is_user_file, relative
from ..incident import Place
from .operations import public_function, public_name

BINARY: dict[type[ast.operator], str] = {
    ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.Div: "div", ast.Pow: "pow", ast.MatMult: "matmul",
}  # fmt: skip
# ordinary numbers make a value of these that is not finite
LEAVING = frozenset(
    """log log2 log10 log1p logit sqrt rsqrt div reciprocal pow acos asin acosh atanh exp expm1 exp2 std var std_mean
    var_mean softmax log_softmax mean xlogy fmod remainder inv cholesky det logdet solve float_power""".split()
)
# torch's own Python code and distributions do arithmetic of their own under these names
HIDE = frozenset(
    """normalize log_prob entropy kl_divergence rsample sample Categorical Normal MultivariateNormal Bernoulli Beta
    cosine_embedding_loss triplet_margin_loss triplet_margin_with_distance_loss pairwise_distance
    gaussian_nll_loss GaussianNLLLoss TripletMarginLoss CosineEmbeddingLoss""".split()
)
HIDDEN = frozenset("div log exp pow sqrt sub mul add rsqrt reciprocal mean".split())  # such arithmetic
MAX_FILES, MAX_SOURCE = 60, 2_000_000  # of the user's own program; characters of one file

Said = tuple[str, str, int]  # operation, file, line


def place_of(op: str | None, module: nn.Module | None, noted: Container[tuple[str | None, int | None]]) -> Place | None:
    """The only line where this operation stands: in the class of the module, else in the whole program; else the only
    one of them that was never noted."""
    if op is None or (module is not None and not is_user_file(_file_of(module))):
        return None
    for found in (_in_classes(module), _everywhere()):
        lines = {(file, line) for name, file, line in found if name == op or (op in HIDDEN and name in HIDE)}
        if len(lines) > 1:
            lines = {(file, line) for file, line in lines if (relative(file), line) not in noted}
        if len(lines) == 1:
            file, line = lines.pop()
            own = {name for name, *rest in found if rest == [file, line]}
            return place(file, line) if op in own else None
        if lines:
            return None
    return None


def only_leaving(module: nn.Module | None) -> tuple[str, Place] | None:
    """The only operation in the class of this module that can make such a value of ordinary numbers."""
    found = {(op, file, line) for op, file, line in _in_classes(module) if op in LEAVING or op in HIDE}
    if len(found) != 1:
        return None
    op, file, line = found.pop()
    return (op, place(file, line)) if op in LEAVING else None


def only_leaving_in(file: str, function: str) -> Place | None:
    """The only line in a function that can make such a value."""
    for node in ast.walk(_tree(file)):
        if isinstance(node, ast.FunctionDef) and node.name == function:
            lines = {line for op, _, line in _said(node, file) if op in LEAVING}
            return place(file, lines.pop()) if len(lines) == 1 else None
    return None


def _in_classes(module: nn.Module | None) -> list[Said]:
    """What stands in the user's classes of a module."""
    found: list[Said] = []
    for owner in type(module).__mro__ if module is not None else ():
        code = getattr(owner.__dict__.get("forward"), "__code__", None)
        if code is None or not is_user_file(code.co_filename):
            continue
        for node in ast.walk(_tree(code.co_filename)):
            if isinstance(node, ast.ClassDef) and node.lineno <= code.co_firstlineno <= (node.end_lineno or 0):
                found += _said(node, code.co_filename)
    return found


def _file_of(module: nn.Module) -> str:
    code = getattr(type(module).forward, "__code__", None)
    return code.co_filename if code is not None else "<unknown>"


def trees() -> Iterator[tuple[str, ast.AST]]:
    """The user's own files, parsed."""
    files = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    mine = sorted(file for file in files if isinstance(file, str) and file.endswith(".py") and is_user_file(file))
    for file in mine[:MAX_FILES]:
        yield file, _tree(file)


def _everywhere() -> list[Said]:
    return [said for file, tree in trees() for said in _said(tree, file)]


@functools.lru_cache(maxsize=MAX_FILES)
def _tree(file: str) -> ast.AST:
    source = "".join(linecache.getlines(file))
    try:
        return ast.parse(source if len(source) < MAX_SOURCE else "")
    except (SyntaxError, ValueError):
        return ast.Module([], [])


def _said(tree: ast.AST, file: str) -> Iterator[Said]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            name = node.func.attr
            if name == "apply" and isinstance(node.func.value, ast.Name):
                name = public_name(node.func.value.id)  # of an autograd.Function
            yield public_function(name), file, node.func.end_lineno or node.lineno
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield public_function(node.func.id), file, node.lineno
        elif isinstance(node, (ast.BinOp, ast.AugAssign)) and type(node.op) in BINARY and not _constant(node):
            yield BINARY[type(node.op)], file, node.lineno


def _constant(node: ast.BinOp | ast.AugAssign) -> bool:
    """Division by a number that is written there, a whole power of one: neither bears anything."""
    right: Any = node.right if isinstance(node, ast.BinOp) else node.value
    value = right.value if isinstance(right, ast.Constant) else None
    if not isinstance(value, (int, float)):
        return False
    return isinstance(node.op, ast.Div) and value != 0 or isinstance(node.op, ast.Pow) and value >= 1


def place(file: str, line: int) -> Place:
    return Place(relative(file), line, linecache.getline(file, line).strip() or None)
