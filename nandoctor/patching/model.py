"""How a script writes its model, where it is complete, where it is called, and how it writes a layer of it."""

import ast
import re
from collections.abc import Iterator

from nandoctor.evidence import Evidence
from nandoctor.patching.numbers import constructors
from nandoctor.patching.roles import handed_on
from nandoctor.patching.source import FUNCTIONS, Source, last_name

PATH = re.compile(r"[A-Za-z0-9_]{1,60}(\.[A-Za-z0-9_]{1,60}){0,12}")
ITERATORS = ("parameters", "named_parameters", "modules", "named_modules", "state_dict")


def layer(root: str, path: str) -> str | None:
    """A dotted path as Python writes it: model.body[2].fc1"""
    if not PATH.fullmatch(path):
        return None
    return root + "".join(f"[{part}]" if part.isdigit() else f".{part}" for part in path.split("."))


def built(source: Source, e: Evidence) -> tuple[ast.stmt, str] | None:
    """The statement before which the only model is complete, and how it is written there."""
    if e.layout is None or e.layout.models != 1:
        return None
    made = constructors(source, e)
    for call in [*made, *_calls_of_makers(source, made)]:
        statement = source.statement(call)
        owners = [_root(source, owner, e) for owner in _owners(source, call)]
        if statement is not None and owners and all(owners) and len(set(owners)) == 1:
            return statement, str(owners[0])
    return None


def _calls_of_makers(source: Source, made: list[ast.Call]) -> list[ast.Call]:
    """make_optimizer(model.parameters()), where the function makes and returns it."""
    makers = {up.name for call in made for up in source.above(call) if isinstance(up, ast.FunctionDef)}
    return source.calls(*(makers - {"__init__", "main", "forward"}))


def _owners(source: Source, call: ast.Call) -> Iterator[ast.expr]:
    """X of every X.parameters() that an optimizer is given, also by way of a variable."""
    for node in ast.walk(call):
        if isinstance(node, ast.Call) and last_name(node.func) in ITERATORS and isinstance(node.func, ast.Attribute):
            yield node.func.value
    for argument in [*call.args[:1], *(k.value for k in call.keywords if k.arg == "params")]:
        if isinstance(argument, ast.Name):
            for assign in ast.walk(source.scope(call)):
                if isinstance(assign, ast.Assign) and any(last_name(t) == argument.id for t in assign.targets):
                    for node in ast.walk(assign.value):
                        if isinstance(node, ast.Attribute) and node.attr in ITERATORS:
                            yield node.value


def _root(source: Source, owner: ast.expr, e: Evidence) -> str | None:
    """Without the names of layers at its end: of agent.value the agent."""
    assert e.layout is not None
    names = []
    node = owner
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        if isinstance(node, ast.Subscript):
            if not (isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, int)):
                return None
            names.append(str(node.slice.value))
        else:
            names.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return None
    names = [node.id, *reversed(names)]
    for kept in range(1, len(names) + 1):
        path = ".".join(names[kept:])
        if kept == 1 and names[0] == "self" and not _of_this_class(source, owner, e.layout.modules.get("", "")):
            continue
        if path in e.layout.modules:
            return ".".join(names[:kept])
    return None


def _of_this_class(source: Source, node: ast.AST, name: str) -> bool:
    """`self` is the model itself, not something that holds it."""
    around = next((up for up in source.above(node) if isinstance(up, ast.ClassDef)), None)
    return around is not None and around.name == name


def in_module(source: Source, node: ast.AST) -> bool:
    """Inside a class that is itself a model."""
    around = next((up for up in source.above(node) if isinstance(up, ast.ClassDef)), None)
    return around is not None and any(last_name(base).endswith("Module") for base in around.bases)


def names(source: Source, e: Evidence) -> set[str]:
    """Every way in which the script writes the model: model, self.model, net inside fit(net)."""
    found = {e.style.model} if re.search(rf"\b{re.escape(e.style.model)}\b", source.text) else set()
    place = built(source, e)
    if place is not None:
        found.add(place[1])
    for _ in range(3):  # handed on three times: main -> fit -> Trainer
        known = len(found)
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Assign) and source.part(node.value) in found:
                found |= {source.part(one) for one in node.targets if isinstance(one, (ast.Name, ast.Attribute))}
            elif isinstance(node, ast.Call):
                found |= handed_on(source, node, found)
        if len(found) == known:
            break
    return found


def calls(source: Source, e: Evidence, evaluating: bool = False) -> list[ast.Call]:
    """Where the model is called for training: not under no_grad, but for `evaluating`."""
    known = names(source, e)
    found = [call for call in _all_calls(source) if source.part(call.func) in known]
    return [call for call in found if evaluating or not without_gradient(source, call)]


def _all_calls(source: Source) -> list[ast.Call]:
    found = [n for n in ast.walk(source.tree) if isinstance(n, ast.Call)]
    return sorted(found, key=lambda call: (call.lineno, call.col_offset))


def without_gradient(source: Source, node: ast.AST) -> bool:
    for up in source.above(node):
        told: list[ast.expr] = []
        if isinstance(up, ast.With):
            told = [item.context_expr for item in up.items]
        elif isinstance(up, (ast.FunctionDef, ast.AsyncFunctionDef)):
            told = up.decorator_list
        if any("no_grad" in source.part(one) or "inference_mode" in source.part(one) for one in told):
            return True
        if isinstance(up, FUNCTIONS):
            return False
    return False


def here(source: Source, e: Evidence, node: ast.AST) -> str | None:
    """How the model is written where `node` stands."""
    inside = source.scope(node)
    known = names(source, e)
    for other in ast.walk(inside):  # the function itself uses it
        if isinstance(other, (ast.Name, ast.Attribute)) and source.part(other) in known:
            return source.part(other)
    return None
