"""Constants of a script: the learning rate, and the optimizer's other arguments."""

import ast
from collections.abc import Iterator, Mapping
from typing import Any

from nandoctor.evidence import Evidence
from nandoctor.patching.source import Source, last_name

OPTIMIZERS = ("SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "Adadelta", "NAdam", "RAdam", "Adamax", "ASGD", "LBFGS")
PEAKS = ("max_lr", "base_lr")
DEEP = 6  # names behind names
LEAST, MOST = 1e-9, 1e4  # a factor beyond them is a mistake of its own


def constructors(source: Source, e: Evidence) -> list[ast.Call]:
    names = {*OPTIMIZERS, *([e.optimizer.name] if e.optimizer else [])}
    return source.calls(*names)


def learning_rate(source: Source, e: Evidence, wanted: Mapping[str, Any]) -> bool:
    """Every number that the optimizer's lr, or a schedule's peak, is made of is multiplied; each once."""
    factor = wanted.get("factor")
    if not isinstance(factor, (int, float)) or not LEAST < factor < MOST or factor == 1:
        return False
    places: dict[tuple[int, int], ast.expr] = {}
    for call in [*constructors(source, e), *source.calls("OneCycleLR", "CyclicLR")]:
        for node in ast.walk(call):
            if isinstance(node, ast.keyword) and node.arg in ("lr", *PEAKS):
                _collect(source, node.value, places)
            elif isinstance(node, ast.Dict):
                for key, value in zip(node.keys, node.values, strict=True):
                    if isinstance(key, ast.Constant) and key.value == "lr":
                        _collect(source, value, places)
        if last_name(call.func) in OPTIMIZERS and len(call.args) > 1:
            _collect(source, call.args[1], places)
    done = [source.swap(node, f"{float(node.value) * factor:.3g}") for node in places.values()
            if isinstance(node, ast.Constant) and isinstance(node.value, (int, float))]  # fmt: skip
    return bool(done) and all(done)


def batch_size(source: Source, e: Evidence, wanted: Mapping[str, Any]) -> bool:
    """Of the DataLoaders that give batches of the size that the trace has seen."""
    to = wanted.get("to")
    places: dict[tuple[int, int], ast.expr] = {}
    for call in source.calls("DataLoader"):
        told = [k.value for k in call.keywords if k.arg == "batch_size"] + call.args[1:2]
        for value in told[:1]:
            _collect(source, value, places)
    now = [node for node in places.values() if isinstance(node, ast.Constant) and node.value == e.style.batch]
    return isinstance(to, int) and bool(now) and all([source.swap(node, str(to)) for node in now])


def _collect(source: Source, value: ast.expr, places: dict[tuple[int, int], ast.expr]) -> None:
    for node in _numbers(source, value, 0):
        places[node.lineno, node.col_offset] = node


def _numbers(source: Source, value: ast.expr, depth: int) -> Iterator[ast.expr]:
    """The constants behind an expression: itself, a variable's value, an argument's default, a factor of a product."""
    if isinstance(value, ast.Constant):
        if isinstance(value.value, (int, float)) and not isinstance(value.value, bool):
            yield value
    elif isinstance(value, ast.BinOp) and isinstance(value.op, (ast.Mult, ast.Div)):
        # one factor alone: a name rather than the number beside it, which another product may share
        left = list(_numbers(source, value.left, depth))
        yield from (left if isinstance(value.left, ast.Constant) else left or _numbers(source, value.right, depth))
    elif isinstance(value, ast.Name) and depth < DEEP and (told := _told(source, value)):
        for one in told:
            yield from _numbers(source, one, depth + 1)
    elif isinstance(value, (ast.Name, ast.Attribute)) and depth < DEEP:
        name = last_name(value)
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Assign) and any(last_name(t) == name for t in node.targets):
                yield from _numbers(source, node.value, depth + 1)
            elif isinstance(node, ast.AnnAssign) and last_name(node.target) == name and node.value is not None:
                yield from _numbers(source, node.value, depth + 1)
            elif isinstance(node, ast.Call) and last_name(node.func) == "add_argument":
                flags = [arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
                if any(flag.lstrip("-").replace("-", "_") == name for flag in flags):
                    for keyword in node.keywords:
                        if keyword.arg == "default":
                            yield from _numbers(source, keyword.value, depth + 1)
            elif isinstance(node, ast.Call):
                for keyword in node.keywords:
                    constant = isinstance(keyword.value, ast.Constant) and isinstance(value, ast.Attribute)
                    if keyword.arg == name and constant:
                        yield from _numbers(source, keyword.value, depth + 1)


def _told(source: Source, name: ast.Name) -> list[ast.expr]:
    """What the calls of the function around it give for a parameter, else its default."""
    scope = source.scope(name)
    if not isinstance(scope, ast.FunctionDef):
        return []
    arguments = [*scope.args.posonlyargs, *scope.args.args]
    names = [a.arg for a in arguments]
    named = [a.arg for a in scope.args.kwonlyargs]
    if name.id not in names and name.id not in named:
        return []
    around = source.parents.get(scope)
    own = around.name if isinstance(around, ast.ClassDef) and scope.name == "__init__" else scope.name
    place = names.index(name.id) - (names[:1] in (["self"], ["cls"])) if name.id in names else -1
    calls = [call for call in source.calls(own) if not any(isinstance(a, ast.Starred) for a in call.args)]
    given: list[ast.expr] = []
    for call in calls:
        given += [k.value for k in call.keywords if k.arg == name.id]
        given += call.args[place : place + 1] if place >= 0 else []
    if given and len(given) == len(calls):
        return given
    defaults = [*zip(names[len(names) - len(scope.args.defaults) :], scope.args.defaults, strict=True)]
    defaults += [(n, d) for n, d in zip(named, scope.args.kw_defaults, strict=True) if d is not None]
    return [*given, *(default for parameter, default in defaults if parameter == name.id)]


def optimizer_arguments(source: Source, e: Evidence, wanted: Mapping[str, Any]) -> bool:
    arguments = wanted.get("arguments")
    if not isinstance(arguments, Mapping) or not arguments:
        return False
    done = False
    for call in constructors(source, e):
        for name, value in arguments.items():
            text = _written(value)
            if text is None or not str(name).isidentifier():
                continue
            known = next((keyword for keyword in call.keywords if keyword.arg == name), None)
            if known is not None:
                done = source.swap(known.value, text) or done
            elif name != "alpha" or last_name(call.func) == "RMSprop":
                done = append_argument(source, call, f"{name}={text}") or done
    return done


def append_argument(source: Source, call: ast.Call, text: str) -> bool:
    """Before the closing bracket of a call on one line."""
    if call.end_lineno != call.lineno:
        return False
    old = source.part(call)
    comma = "" if old.rstrip(")").rstrip().endswith((",", "(")) else ", "
    return source.swap(call, f"{old[:-1].rstrip()}{comma}{text})")


def _written(value: Any) -> str | None:
    if isinstance(value, (list, tuple)) and all(isinstance(v, (int, float)) for v in value):
        return f"({', '.join(f'{v:g}' for v in value)})"
    return f"{value:g}" if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def usual(e: Evidence) -> dict[str, Any]:
    """As treat/optimizer_settings.py, from what the trace says of the optimizer."""
    found: dict[str, Any] = {}
    seen = e.denominator
    if seen is None:
        return found
    half = seen.dtype in ("float16", "bfloat16")
    if seen.eps is not None and (seen.eps < (1e-4 if half else 1e-12) or seen.eps > 1e-2):
        found["eps"] = 1e-4 if half else 1e-8
    if seen.beta1 is not None and seen.beta2 is not None:
        if seen.beta2 < 0.5 or seen.beta1 >= 0.99 or seen.beta1**2 > seen.beta2:
            found["betas"] = (0.9, 0.999)
    elif seen.beta2 is not None and seen.beta2 < 0.5:
        found["alpha"] = 0.99
    if seen.momentum is not None and seen.momentum >= 0.999:
        found["momentum"] = 0.9
    return found
