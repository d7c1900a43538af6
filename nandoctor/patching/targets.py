"""What the loss compares with: labels that the model has no output for, ignored ones, missing ones."""

import ast
import re
from collections.abc import Iterator, Mapping
from typing import Any

from nandoctor.evidence import Evidence
from nandoctor.patching.numbers import append_argument
from nandoctor.patching.source import Source, last_name

Wanted = Mapping[str, Any]
OF_CLASSES = ("cross_entropy", "nll_loss")
CRITERIA = ("CrossEntropyLoss", "NLLLoss")
OUT_OF_BOUNDS = re.compile(r"Target (-?\d+) is out of bounds")
INDEX = re.compile(r"index out of range in self", re.IGNORECASE)
IGNORED = -100
REGRESSION = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy_with_logits",
              "binary_cross_entropy", "gaussian_nll_loss", "poisson_nll_loss")  # fmt: skip
REGRESSIONS = ("MSELoss", "L1Loss", "SmoothL1Loss", "HuberLoss", "BCEWithLogitsLoss", "BCELoss", "PoissonNLLLoss")


def agreeing(source: Source, e: Evidence, wanted: Wanted) -> bool:
    """By what was seen: missing targets, a batch that counts no label, one below 0, one beyond the classes."""
    bad, data, crash = e.bad, e.data, e.crash
    said = OUT_OF_BOUNDS.search(crash.message) if crash is not None else None
    if said is not None:
        label = int(said[1])
        return (label < 0 and ignoring(source, e, label)) or (label >= 0 and more_outputs(source, e, label))
    if bad is not None and bad.phase == "input":
        return present(source, e)
    if data is not None and data.wrapped_labels is not None:
        return unwrapped(source)
    if bad is not None and bad.phase in ("loss", "forward"):
        return counted(source)
    return bool(data is not None and data.negative_labels and unwrapped(source))


def _loss_calls(source: Source, functions: tuple[str, ...], classes: tuple[str, ...]) -> Iterator[ast.Call]:
    """F.cross_entropy(a, b), and criterion(a, b) where criterion = nn.CrossEntropyLoss()."""
    made = {source.part(t).removeprefix("self.") for call in source.calls(*classes)
            if isinstance(statement := source.statement(call), ast.Assign) and statement.value is call
            for t in statement.targets}  # fmt: skip
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call) and len(node.args) >= 2:
            if last_name(node.func) in functions or source.part(node.func).removeprefix("self.") in made:
                yield node


def ignoring(source: Source, e: Evidence, label: int) -> bool:
    """A label below 0 that means "not labelled" is told to the loss."""
    done = False
    for call in source.calls(*OF_CLASSES, *CRITERIA):
        if any(k.arg == "ignore_index" for k in call.keywords):
            continue
        done = append_argument(source, call, f"ignore_index={label}") or done
    return done


def more_outputs(source: Source, e: Evidence, label: int) -> bool:
    """The last layer gets an output for the largest label that was seen."""
    high = max(label, int(e.data.labels_high) if e.data is not None and e.data.labels_high is not None else label)
    if e.layout is None:
        return False
    widths = [(name, shape[0]) for name, shape in e.layout.parameters.items()
              if len(shape) == 2 and e.layout.modules.get(name.removesuffix(".weight"), "") == "Linear"]  # fmt: skip
    if not widths or widths[-1][1] > high or high - widths[-1][1] > 1000:
        return False
    attribute = widths[-1][0].removesuffix(".weight").rpartition(".")[2]
    lacking = high + 1 - widths[-1][1]
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Assign) and any(source.part(t) == f"self.{attribute}" for t in node.targets):
            call = node.value
            if isinstance(call, ast.Call) and last_name(call.func) == "Linear" and len(call.args) >= 2:
                width = call.args[1]
                if isinstance(width, ast.Constant) and isinstance(width.value, int):
                    return source.swap(width, str(width.value + lacking))
                return source.swap(width, f"{source.part(width)} + {lacking}")
    return False


def counted(source: Source) -> bool:
    """The mean over the labels that count, at least one of them: a batch that has none gives 0 and no gradient."""
    done = False
    for call in _loss_calls(source, OF_CLASSES, CRITERIA):
        labels = source.part(call.args[1])
        ignored = next((source.part(k.value) for k in call.keywords if k.arg == "ignore_index"), None)
        if any(k.arg in ("weight", "reduction", "label_smoothing") for k in call.keywords) or "\n" in labels:
            continue
        if last_name(call.func) in OF_CLASSES:
            text = source.part(call)
            summed = f'{text[:-1].rstrip().rstrip(",")}, reduction="sum")'
            done = source.swap(call, _over(summed, labels, ignored or str(IGNORED))) or done
            continue
        made = _made(source, call)
        if made is None or any(k.arg not in ("ignore_index",) for k in made.keywords) or made.args:
            continue
        ignored = next((source.part(k.value) for k in made.keywords if k.arg == "ignore_index"), str(IGNORED))
        done = source.swap(call, _over(source.part(call), labels, ignored)) or done
    if done:
        for made in source.calls(*CRITERIA):
            if not any(k.arg == "reduction" for k in made.keywords):
                append_argument(source, made, 'reduction="sum"')
    return done


def _over(summed: str, labels: str, ignored: str) -> str:
    return f"({summed} / ({labels} != {ignored}).sum().clamp(min=1))"


def _made(source: Source, call: ast.Call) -> ast.Call | None:
    name = source.part(call.func).removeprefix("self.")
    for made in source.calls(*CRITERIA):
        statement = source.statement(made)
        targets = statement.targets if isinstance(statement, ast.Assign) else []
        if any(source.part(target).removeprefix("self.") == name for target in targets):
            return made
    return None


def present(source: Source, e: Evidence) -> bool:
    """The loss over the targets that are there."""
    if not source.imports("torch"):
        return False
    done = False
    for call in _loss_calls(source, REGRESSION, REGRESSIONS):
        output, target = (source.part(argument) for argument in call.args[:2])
        simple = isinstance(call.args[1], (ast.Name, ast.Attribute)) and "\n" not in output
        simple = simple and isinstance(call.args[0], (ast.Name, ast.Attribute, ast.Call))
        if simple and _trains(source, call):
            there = f"torch.isfinite({target})"
            rest = "".join(f", {source.part(a)}" for a in (*call.args[2:], *call.keywords))
            new = f"{source.part(call.func)}({output}[{there}], {target}[{there}]{rest})"
            done = source.swap(call, new) or done
    return done


def _trains(source: Source, call: ast.Call) -> bool:
    around = source.loop(call) or source.scope(call)
    return any(isinstance(node, ast.Call) and last_name(node.func) == "backward" for node in ast.walk(around))


def unwrapped(source: Source) -> bool:
    """x[torch.arange(len(y)), y].mean(): only the rows whose label is a class."""
    done = False
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.Subscript) or not isinstance(node.ctx, ast.Load):
            continue
        one_hot = isinstance(node.value, ast.Call) and last_name(node.value.func) == "eye"
        if one_hot and isinstance(node.slice, ast.Name):
            labels = node.slice.id
            done = source.swap(node, f"({source.part(node)} * ({labels} >= 0).unsqueeze(-1))") or done
        if not (isinstance(node.slice, ast.Tuple) and len(node.slice.elts) == 2):
            continue
        labels = source.part(node.slice.elts[1])
        if isinstance(node.slice.elts[1], (ast.Name, ast.Subscript)) and _picks(source, node):
            done = _averaged(source, node, labels) or done
    return done


def _picks(source: Source, node: ast.Subscript) -> bool:
    said = source.part(source.statement(node) or node)
    return any(word in said for word in ("softmax", "logsumexp", "logits"))


def _averaged(source: Source, node: ast.Subscript, labels: str) -> bool:
    """The mean is taken of what is picked, or of a difference that it is part of."""
    for up in source.above(node):
        if isinstance(up, ast.Call) and isinstance(up.func, ast.Attribute) and up.func.attr in ("mean", "sum"):
            inner = up.func.value
            text = source.part(inner)
            bracketed = text if isinstance(inner, (ast.Subscript, ast.Name)) or text.startswith("(") else f"({text})"
            return source.swap(inner, f"{bracketed}[{labels} >= 0]")
        if isinstance(up, ast.stmt):
            return False
    return False
