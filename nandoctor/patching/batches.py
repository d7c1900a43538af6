"""What a batch holds, mended on its way into the model: inputs made finite, brought into range, standardised."""

import ast
from collections.abc import Iterator, Mapping
from typing import Any

from nandoctor.evidence import Evidence
from nandoctor.evidence.layout import Given
from nandoctor.patching import model
from nandoctor.patching.source import Source, last_name

Wanted = Mapping[str, Any]
ROOM = 3.0  # times the usual largest value: beyond it a value is brought back


def _argument(call: ast.Call, given: Given) -> ast.expr | None:
    if given.place.isdigit():
        place = int(given.place)
        before = call.args[: place + 1]
        if place < len(call.args) and not any(isinstance(a, ast.Starred) for a in before):
            return call.args[place]
        return None
    return next((k.value for k in call.keywords if k.arg == given.place), None)


def _inputs(source: Source, e: Evidence) -> Iterator[tuple[ast.Call, ast.expr]]:
    """Each call of the model, with what it is given in floating point."""
    floating = [given for given in e.layout.inputs if given.floating] if e.layout is not None else []
    for call in model.calls(source, e, evaluating=True):
        for given in floating or [Given("0", (), None, True)]:
            argument = _argument(call, given)
            if argument is not None and "\n" not in source.part(argument):
                yield call, argument


def finite(source: Source, e: Evidence, wanted: Wanted) -> bool:
    """What the model is called with, made finite; a plain variable is mended for all that follows."""
    return source.imports("torch") and _mended(source, e, "torch.nan_to_num({}, nan=0.0, posinf=0.0, neginf=0.0)")


def in_range(source: Source, e: Evidence, wanted: Wanted) -> bool:
    """Values far beyond the usual range are brought back to its edge."""
    limit = wanted.get("limit")
    if not isinstance(limit, (int, float)) or not limit > 0:
        return False
    return _mended(source, e, f"{{}}.clamp({-limit:.4g}, {limit:.4g})")


def _mended(source: Source, e: Evidence, text: str) -> bool:
    done = False
    for call, argument in _inputs(source, e):
        statement = source.statement(call)
        written = source.part(argument)
        simple = isinstance(statement, (ast.Assign, ast.Expr, ast.AnnAssign, ast.Return))
        if simple and isinstance(argument, ast.Name) and _made_inside(source, call, written) and statement is not None:
            done = source.above_it(statement, f"{written} = {text.format(written)}") or done
        elif isinstance(argument, (ast.Name, ast.Attribute, ast.Subscript, ast.Call)):
            done = source.swap(argument, text.format(written)) or done
    return done


def _made_inside(source: Source, call: ast.Call, name: str) -> bool:
    """It is made anew for this call: in the same loop, or a parameter of the function."""
    loop, scope = source.loop(call), source.scope(call)
    inside = ast.walk(loop if loop is not None else scope)
    if any(isinstance(n, ast.Name) and n.id == name and isinstance(n.ctx, ast.Store) for n in inside):
        return True
    return isinstance(scope, ast.FunctionDef) and any(a.arg == name for a in scope.args.args) and loop is None


def standardised(source: Source, e: Evidence, wanted: Wanted) -> bool:
    """Each feature by its own mean and spread, which a BatchNorm without weights keeps for evaluation."""
    place = model.built(source, e)
    first = next((g for g in e.layout.inputs if g.floating), None) if e.layout is not None else None
    if place is None or first is None or first.place != "0" or not source.imports("torch"):
        return False
    kinds = {2: "BatchNorm1d", 4: "BatchNorm2d", 5: "BatchNorm3d"}
    kind = kinds.get(len(first.shape))
    if kind is None or (first.shape[0] if first.shape else 0) < 4:
        return False
    statement, root = place
    return source.above_it(
        statement,
        f"standardise = torch.nn.{kind}({first.shape[1]}, affine=False)  # by the data's own mean and spread",
        f"{root}.register_forward_pre_hook(",
        "    lambda module, given: (standardise.train(module.training).to(given[0].device)(given[0]), *given[1:])",
        ")",
    )


def winsorised(source: Source, e: Evidence, wanted: Wanted) -> bool:
    """Rows that are loud in every batch are brought down to the others, in evaluation too."""
    place = model.built(source, e)
    if place is None or source.functions("in_range"):
        return False
    statement, root = place
    return source.above_it(
        statement,
        "def in_range(module, given):  # rows far louder than the others are brought down to them",
        "    loud = given[0].abs().flatten(1).amax(1)",
        f"    factor = ({ROOM:g} * loud.median() / loud.clamp_min(1e-12)).clamp(max=1)",
        "    return given[0] * factor.view(-1, *[1] * (given[0].dim() - 1)), *given[1:]",
        f"{root}.register_forward_pre_hook(in_range)",
    )


def without_singles(source: Source, e: Evidence, wanted: Wanted) -> bool:
    """A batch of one row is left out, where no DataLoader can be told to."""
    done = False
    for call in model.calls(source, e):
        statement, loop = source.statement(call), source.loop(call)
        argument = call.args[0] if call.args else None
        if statement is not None and isinstance(loop, ast.For) and isinstance(argument, ast.Name):
            if source.statement(statement) is loop or source.parents.get(statement) is loop:
                text = f"if len({argument.id}) < 2:  # BatchNorm needs two rows"
                done = source.above_it(statement, text, "    continue") or done
    return done


def shuffled(source: Source, e: Evidence, wanted: Wanted) -> bool:
    """A DataLoader that was told not to shuffle: the first of them is that of training."""
    loaders = source.calls("DataLoader")
    if any(k.arg == "shuffle" and _says(k.value, True) for call in loaders for k in call.keywords):
        return False
    for call in loaders[:1]:
        known = next((k for k in call.keywords if k.arg == "shuffle"), None)
        if known is not None and _says(known.value, False):
            return source.swap(known.value, "True")
    return not loaders and source.imports("torch") and _unsorted(source)


def _unsorted(source: Source) -> bool:
    """for rows in y.argsort().split(size): batches of rows that are alike."""
    done = False
    for call in source.calls("argsort"):
        loop = source.parents.get(call)
        while isinstance(loop, (ast.Attribute, ast.Call)):
            loop = source.parents.get(loop)
        if isinstance(loop, ast.For) and isinstance(call.func, ast.Attribute) and not call.args and not call.keywords:
            done = source.swap(call, f"torch.randperm(len({source.part(call.func.value)}))") or done
    return done


def _says(node: ast.expr, value: bool) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


REORDERS = ("randperm", "permutation", "flip", "roll", "sample", "shuffle")


def aligned(source: Source, e: Evidence, wanted: Wanted) -> bool:
    """One of inputs and targets is put into another order on its way into model or loss, the other is not."""
    done = False
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.expr) or model.without_gradient(source, node):
            continue
        kept = _as_it_was(source, node)
        if kept is None or not _alone(source, e, node):
            continue
        statement = source.statement(node)
        if isinstance(statement, ast.Assign) and statement.value is node and source.part(statement.targets[0]) == kept:
            done = source.remove(statement) or done
        else:
            done = source.swap(node, kept) or done
    return done


def _as_it_was(source: Source, node: ast.expr) -> str | None:
    """y of y[torch.randperm(len(y))], x of x.flip(0) or x.roll(1, 0)."""
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Call):
        if last_name(node.slice.func) in ("randperm", "permutation"):
            return source.part(node.value)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
        first = node.args[0]
        if node.func.attr == "flip" and len(node.args) == 1 and _is(first, 0):
            return source.part(node.func.value) if last_name(node.func.value) != "torch" else None
        along = node.args[1] if len(node.args) > 1 else next((k.value for k in node.keywords if k.arg == "dims"), None)
        if node.func.attr == "roll" and along is not None and _is(along, 0) and last_name(node.func.value) != "torch":
            return source.part(node.func.value)
    return None


def _is(node: ast.expr, value: int) -> bool:
    return isinstance(node, ast.Constant) and node.value == value and not isinstance(node.value, bool)


def _alone(source: Source, e: Evidence, node: ast.expr) -> bool:
    """In the training loop, and no other value there is put into the same order."""
    scope = source.loop(node) or source.scope(node)
    if isinstance(scope, ast.Module):
        return False
    others = [n for n in ast.walk(scope) if n is not node and isinstance(n, ast.expr) and _as_it_was(source, n)]
    trains = any(isinstance(n, ast.Call) and last_name(n.func) == "backward" for n in ast.walk(scope))
    return trains and not others
