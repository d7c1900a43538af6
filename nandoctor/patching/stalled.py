"""A run that does not move: the optimizer's parameters, frozen layers, a cut graph, the sign, an ended schedule."""

import ast
from collections.abc import Mapping
from typing import Any

from nandoctor.evidence import Evidence
from nandoctor.patching import model, numbers
from nandoctor.patching.source import Source, last_name

Wanted = Mapping[str, Any]
SCHEDULES = ("StepLR", "MultiStepLR", "ExponentialLR", "CosineAnnealingLR", "LinearLR", "PolynomialLR", "LambdaLR",
             "MultiplicativeLR", "ReduceLROnPlateau")  # fmt: skip


def all_parameters(source: Source, e: Evidence, wanted: Wanted) -> bool:
    """The optimizer was given a part of the model: it gets the whole."""
    place = model.built(source, e)
    if place is None:
        return False
    done = False
    for call in numbers.constructors(source, e):
        first = call.args[0] if call.args else None
        if not isinstance(first, ast.Call) or not isinstance(first.func, ast.Attribute):
            continue
        if first.func.attr == "parameters" and source.part(first.func.value) != place[1]:
            done = source.swap(first, f"{place[1]}.parameters()") or done
    return done


def thawed(source: Source, e: Evidence, wanted: Wanted) -> bool:
    """requires_grad = False of layers that were meant to learn."""
    done = False
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Assign) and any(last_name(t) == "requires_grad" for t in node.targets):
            if isinstance(node.value, ast.Constant) and node.value.value is False:
                done = source.swap(node.value, "True") or done
        elif isinstance(node, ast.Call) and last_name(node.func) == "requires_grad_" and node.args:
            if isinstance(node.args[0], ast.Constant) and node.args[0].value is False:
                done = source.swap(node.args[0], "True") or done
    return done


def uncut(source: Source, e: Evidence, wanted: Wanted) -> bool:
    """A detach() on the only way from the weights to a term of the loss."""
    done = False
    for call in source.calls("detach"):
        if not isinstance(call.func, ast.Attribute) or call.args or model.without_gradient(source, call):
            continue
        statement = source.statement(call)
        inside = model.in_module(source, call) and last_name_of(source, call) == "forward"
        if inside and isinstance(statement, (ast.Assign, ast.Return)):
            done = source.swap(call, source.part(call.func.value)) or done
        elif isinstance(statement, ast.Assign) and _a_term(source, statement, call):
            done = source.swap(call, source.part(call.func.value)) or done
    return done


def last_name_of(source: Source, node: ast.AST) -> str:
    scope = source.scope(node)
    return scope.name if isinstance(scope, ast.FunctionDef) else ""


def _a_term(source: Source, statement: ast.Assign, call: ast.Call) -> bool:
    """policy_loss = -(log_prob.detach() * advantage).mean(), whose log-probability is cut off."""
    names = [last_name(t) for t in statement.targets]
    if not any("loss" in name for name in names) and not _in_the_loss(source, statement, names):
        return False
    said = source.part(call.func.value) if isinstance(call.func, ast.Attribute) else ""
    return any(word in said for word in ("log_prob", "logits", "output", "pred"))


def _in_the_loss(source: Source, statement: ast.Assign, names: list[str]) -> bool:
    """It is added into what backward is called on."""
    scope = source.scope(statement)
    called = {source.part(c.func.value) for c in source.calls("backward") if isinstance(c.func, ast.Attribute)}
    for node in ast.walk(scope):
        if isinstance(node, ast.Assign) and any(last_name(t) in called for t in node.targets):
            if any(isinstance(term, ast.Name) and term.id in names for term in _terms(node.value)):
                return True
    return False


def _terms(node: ast.expr) -> list[ast.expr]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Sub)):
        return [*_terms(node.left), *_terms(node.right)]
    return [node]


def downhill(source: Source, e: Evidence, wanted: Wanted) -> bool:
    """maximize=True, or (-loss).backward()."""
    done = False
    for call in numbers.constructors(source, e):
        for keyword in call.keywords:
            if keyword.arg == "maximize" and isinstance(keyword.value, ast.Constant) and keyword.value.value is True:
                done = source.swap(keyword.value, "False") or done
    for call in source.calls("backward"):
        if isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.UnaryOp):
            if isinstance(call.func.value.op, ast.USub):
                done = source.swap(call.func.value, source.part(call.func.value.operand)) or done
    return done


def steady(source: Source, e: Evidence, wanted: Wanted) -> bool:
    """A schedule that has ended the training early keeps the rate."""
    done = False
    for call in source.calls(*SCHEDULES):
        if call.args:
            made = source.part(call.func)
            owner = made.rpartition(".")[0]
            name = f"{owner}.LambdaLR" if owner else "torch.optim.lr_scheduler.LambdaLR"
            done = source.swap(call, f"{name}({source.part(call.args[0])}, lambda step: 1.0)") or done
    return done
