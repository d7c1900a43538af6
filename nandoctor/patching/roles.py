"""Which names of a script hold an optimizer or a GradScaler: by what is assigned to them, whatever they are called."""

import ast
from collections.abc import Iterable

from nandoctor.patching.source import Source, last_name

KNOWN = ("SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "Adadelta", "NAdam", "RAdam", "Adamax", "ASGD", "LBFGS", "Lion")
ROUNDS = 3  # handed on so often: main -> fit -> Trainer


def optimizers(source: Source, more: Iterable[str] = ()) -> set[str]:
    return holding(source, (*KNOWN, *more))


def scalers(source: Source) -> set[str]:
    return holding(source, ("GradScaler",))


def holding(source: Source, classes: tuple[str, ...]) -> set[str]:
    """Names as written (optimizer, self.optimizer) of what is made by calling one of these classes."""
    makers = {*classes}
    for function in ast.walk(source.tree):  # def make_optimizer(model): return torch.optim.Adam(...)
        if isinstance(function, ast.FunctionDef) and function.name not in ("__init__", "configure_optimizers"):
            if any(isinstance(n, ast.Return) and isinstance(n.value, ast.Call) and last_name(n.value.func) in classes
                   for n in ast.walk(function)):  # fmt: skip
                makers.add(function.name)
    found: set[str] = set()
    for _ in range(ROUNDS):
        known = len(found)
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Assign):
                found |= _assigned(source, node, found, makers)
            elif isinstance(node, ast.Call):
                found |= handed_on(source, node, found)
        if len(found) == known:
            break
    return found


def _assigned(source: Source, node: ast.Assign, found: set[str], makers: set[str]) -> set[str]:
    names = set()
    for target in node.targets:
        pairs = [(target, node.value)]
        if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
            pairs = [*zip(target.elts, node.value.elts, strict=False)]
        for one, value in pairs:
            made = isinstance(value, ast.Call) and last_name(value.func) in makers
            if (made or source.part(value) in found) and isinstance(one, (ast.Name, ast.Attribute)):
                names.add(source.part(one))
    return names


def handed_on(source: Source, call: ast.Call, found: set[str]) -> set[str]:
    """The parameter that holds it inside the function that is called."""
    name = last_name(call.func)
    functions = source.functions(name)
    if len(functions) != 1:
        return set()
    parameters = [a.arg for a in functions[0].args.args]
    parameters = parameters[1:] if parameters[:1] == ["self"] else parameters
    pairs: list[tuple[str, ast.expr]] = [*zip(parameters, call.args, strict=False)]
    pairs += [(k.arg, k.value) for k in call.keywords if k.arg is not None]
    return {parameter for parameter, argument in pairs if source.part(argument) in found}
