"""A bad value that was computed without a graph, found in the user's own assignment by repeating its arithmetic.

    adv = (R - R.mean()) / (R.std() + 1e-8)      # R needs no gradient: autograd knows nothing of this line

Only after an alarm, only on the values that the variables hold now, and only plain tensor arithmetic from the list
below is repeated: no function of the user's runs, no attribute of his objects is computed.
"""

import ast
import linecache
import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType, ModuleType
from typing import Any

import torch
from torch import Tensor

from ..frames import relative, variables_of
from ..incident import Operand, Place
from ..stats import is_bad
from .operations import public_function
from .values import describe

OPERATORS: dict[type[ast.operator], tuple[str, Callable[[Any, Any], Any]]] = {
    ast.Add: ("add", operator.add), ast.Sub: ("sub", operator.sub), ast.Mult: ("mul", operator.mul),
    ast.Div: ("div", operator.truediv), ast.Pow: ("pow", operator.pow), ast.MatMult: ("matmul", operator.matmul),
}  # fmt: skip
PURE = frozenset(
    """abs add amax amin clamp clamp_min clone cos cumprod cumsum detach div double exp expm1 float log log10 log1p
    log2 logsumexp matmul mean mul neg norm pow prod reciprocal relu reshape rsqrt sigmoid sin softmax
    log_softmax sqrt square squeeze std sub sum tan tanh unsqueeze var view acos asin atanh logit exp2 sinh
    cosh erfinv var_mean half t""".split()
)
MAX_DEPTH = 6  # assignments followed backwards
MAX_ELEMENTS = 10_000_000  # of a value that is computed again


@dataclass
class Born:
    op: str
    place: Place
    operands: list[Operand] = field(default_factory=list)


_UNKNOWN = object()


class Unknown(Exception):
    """An expression holds something that is not repeated here."""


def born(frame: FrameType, name: str, depth: int = 0) -> Born | None:
    """The operation in the assignment of variable `name` that made a bad value of finite ones, if one is found."""
    statement = assignment(frame, name)
    if statement is None or depth > MAX_DEPTH:
        return None
    search = _Search(frame, name, depth)
    try:
        search.value(statement)
    except Unknown:
        pass
    return search.found


def assignment(frame: FrameType, name: str) -> ast.expr | None:
    """What was last assigned to a variable above the line that runs; in a loop, perhaps below it."""
    source = "".join(linecache.getlines(frame.f_code.co_filename))
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return None
    first = frame.f_code.co_firstlineno
    functions = [n for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))]
    scopes = [n for n in functions if n.lineno >= first - 1]
    inside = frame.f_code.co_name != "<module>"
    scope: ast.AST = min(scopes, key=lambda n: n.lineno - first, default=tree) if inside else tree
    assignments = [node for node in ast.walk(scope) if isinstance(node, ast.Assign)]
    found = [node for node in assignments if any(isinstance(t, ast.Name) and t.id == name for t in node.targets)]
    above = [node for node in found if node.lineno <= frame.f_lineno]
    chosen = max(above or found, key=lambda node: node.lineno, default=None)
    return None if chosen is None else chosen.value


class _Search:
    def __init__(self, frame: FrameType, name: str, depth: int) -> None:
        self.frame, self.name, self.depth = frame, name, depth
        self.found: Born | None = None

    def value(self, node: ast.expr) -> Any:
        if isinstance(node, ast.Constant) and isinstance(node.value, (int, float, bool)):
            return node.value
        if isinstance(node, ast.Name):
            return self._variable(node.id)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return -self.value(node.operand)
        if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
            name, function = OPERATORS[type(node.op)]
            return self._apply(name, function, node, [node.left, node.right], {})
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in PURE:
            return self._call(node, node.func)
        self._follow(node)
        raise Unknown

    def _call(self, node: ast.Call, function: ast.Attribute) -> Any:
        keywords = {k.arg: _constant(k.value) for k in node.keywords if k.arg is not None}
        owner = function.value
        if isinstance(owner, ast.Name) and isinstance(self._held(owner.id), ModuleType):
            module = self._held(owner.id)
            if not module.__name__.startswith("torch"):
                raise Unknown
            return self._apply(function.attr, getattr(torch, function.attr, None), node, node.args, keywords)
        method = getattr(Tensor, function.attr, None)
        return self._apply(function.attr, method, node, [owner, *node.args], keywords)

    def _apply(self, name: str, function: Any, node: ast.expr, parts: list[ast.expr], keywords: dict[str, Any]) -> Any:
        given = [self._part(part) for part in parts]  # all of them: a bad variable in any leads on
        if any(value is _UNKNOWN for value in given):
            raise Unknown
        if self.found is not None or function is None or any(_bad(value) for value in given):
            raise Unknown
        if any(isinstance(value, Tensor) and value.numel() > MAX_ELEMENTS for value in given):
            raise Unknown
        try:
            result = function(*given, **keywords)
        except Exception as error:
            raise Unknown from error
        if _bad(result):
            text = linecache.getline(self.frame.f_code.co_filename, node.lineno).strip() or None
            place = Place(relative(self.frame.f_code.co_filename), node.lineno, text)
            roles = zip(("self", "other", *["other"] * len(given)), given, strict=False)
            operands = [describe(role, value) for role, value in roles if isinstance(value, Tensor)]
            self.found = Born(public_function(name), place, [*operands, *_described(result)])
            raise Unknown
        return result

    def _part(self, part: ast.expr) -> Any:
        try:
            return _constant(part) if isinstance(part, ast.Tuple) else self.value(part)
        except Unknown:
            return _UNKNOWN

    def _variable(self, name: str) -> Any:
        held = self._held(name)
        if isinstance(held, (int, float)):
            return held
        if not isinstance(held, Tensor):
            raise Unknown
        if _bad(held):
            if name != self.name and self.found is None:
                self.found = born(self.frame, name, self.depth + 1)
            raise Unknown
        return held.detach()

    def _follow(self, node: ast.expr) -> None:
        """Inside what is not repeated, a bad variable may still lead on."""
        for inner in ast.walk(node):
            if self.found is not None or not isinstance(inner, ast.Name) or inner.id == self.name:
                continue
            if _bad(self._held(inner.id)):
                self.found = born(self.frame, inner.id, self.depth + 1)

    def _held(self, name: str) -> Any:
        return variables_of(self.frame).get(name, self.frame.f_globals.get(name))


def _bad(value: Any) -> bool:
    if isinstance(value, float):
        return value != value or value in (float("inf"), float("-inf"))
    return isinstance(value, Tensor) and is_bad(value)


def _described(value: Any) -> list[Operand]:
    return [describe("result", value)] if isinstance(value, Tensor) else []


def _constant(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except (ValueError, SyntaxError) as error:
        raise Unknown from error
