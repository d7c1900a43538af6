"""Layers of other kinds: an activation that does not saturate or die, a normalisation that ignores the batch."""

import ast
from collections.abc import Mapping
from typing import Any

from nandoctor.evidence import Evidence
from nandoctor.patching import numbers
from nandoctor.patching.model import in_module
from nandoctor.patching.source import FUNCTIONS, Source, last_name

Wanted = Mapping[str, Any]
SATURATE = {"Sigmoid": "sigmoid", "Tanh": "tanh", "Softsign": "softsign"}
MODULES = ("nn", "torch", "F", "functional")
GROUPS = 8
FEW = 4  # rows of a batch whose gradient is mostly noise; goyal-2017 scales the rate with the batch
DEEP, SHALLOW = 4, 2  # stacked recurrent layers: beyond four few tasks gain, without residual ways none learn


def leaky(source: Source, e: Evidence, wanted: Wanted) -> bool:
    """ReLU -> LeakyReLU, wherever it is written."""
    done = False
    for node in ast.walk(source.tree):
        called = isinstance(parent := source.parents.get(node), ast.Call) and parent.func is node
        if not isinstance(node, ast.Attribute):
            continue
        owner = source.part(node.value)
        if node.attr == "ReLU" and owner in ("nn", "torch.nn"):
            done = source.swap(node, f"{owner}.LeakyReLU") or done
        elif node.attr == "relu" and called and owner in ("F", "torch.nn.functional", "nn.functional"):
            done = source.swap(node, f"{owner}.leaky_relu") or done
        elif node.attr == "relu" and called and owner == "torch":
            done = source.swap(node, "torch.nn.functional.leaky_relu") or done
    return done


def unsaturated(source: Source, e: Evidence, wanted: Wanted) -> bool:
    """sigmoid (else tanh) between layers -> ReLU; what makes a probability, a gate or an output stays."""
    for kind, function in SATURATE.items():
        done = False
        for node in ast.walk(source.tree):
            if not isinstance(node, ast.Attribute) or source.part(node.value).rpartition(".")[2] not in MODULES:
                continue
            if node.attr == kind and not _last_of_a_stack(source, node):
                done = source.swap(node, f"{source.part(node.value)}.ReLU") or done
            elif node.attr == function and _between(source, node):
                done = source.swap(node, _for(source, node, function)) or done
        if done:
            return True
    return False


def _last_of_a_stack(source: Source, node: ast.Attribute) -> bool:
    """The last argument of a Sequential, which may be the output."""
    for up in source.above(node):
        if isinstance(up, ast.Call) and last_name(up.func) == "Sequential":
            last = up.args[-1] if up.args else None
            return last is not None and not isinstance(last, ast.Starred) and any(n is node for n in ast.walk(last))
        if isinstance(up, (ast.stmt, ast.ListComp, ast.GeneratorExp, ast.Starred)):
            return False
    return False


def _between(source: Source, node: ast.Attribute) -> bool:
    """Called on what a layer gives, and given to the next: not returned, and no factor of a product."""
    call = source.parents.get(node)
    if not isinstance(call, ast.Call) or call.func is not node or not in_module(source, node):
        return False
    of_a_layer = bool(call.args) and any(isinstance(n, ast.Call) for n in ast.walk(call.args[0]))
    if isinstance(source.statement(node), ast.Return) or not of_a_layer:
        return False
    for up in source.above(call):
        if isinstance(up, ast.BinOp) and isinstance(up.op, ast.Mult):
            return False
        if isinstance(up, (ast.stmt, *FUNCTIONS)):
            break
    return True


def _for(source: Source, node: ast.Attribute, function: str) -> str:
    """A recurrence that adds its input keeps a bounded activation: tanh, whose slope at 0 is 1."""
    call = source.parents.get(node)
    adds = isinstance(call, ast.Call) and isinstance(call.args[0], ast.BinOp) and isinstance(call.args[0].op, ast.Add)
    owner = source.part(node.value)
    return f"{owner}.tanh" if adds and function == "sigmoid" else f"{owner}.relu"


def shallower(source: Source, e: Evidence, wanted: Wanted) -> bool:
    """Stacked recurrent layers without a way past them."""
    done = False
    for call in source.calls("LSTM", "GRU", "RNN"):
        for keyword in call.keywords:
            value = keyword.value
            if keyword.arg == "num_layers" and isinstance(value, ast.Constant) and isinstance(value.value, int):
                done = (value.value >= DEEP and source.swap(value, str(SHALLOW))) or done
    return done


def group_norm(source: Source, e: Evidence, wanted: Wanted) -> bool:
    """BatchNorm(channels) -> GroupNorm(groups, channels), whose statistics are those of one sample."""
    widths = [shape[0] for name, shape in e.layout.parameters.items()
              if e.layout.modules.get(name.rpartition(".")[0], "").startswith("BatchNorm") and len(shape) == 1
              ] if e.layout is not None else []  # fmt: skip
    groups = next((g for g in range(GROUPS, 0, -1) if widths and all(w % g == 0 and w // g >= 4 for w in widths)), 1)
    done = False
    for call in source.calls("BatchNorm1d", "BatchNorm2d", "BatchNorm3d"):
        known = all(k.arg in ("eps", "affine", "momentum", "track_running_stats") for k in call.keywords)
        if not call.args or not known or not isinstance(call.func, ast.Attribute):
            continue
        rest = "".join(f", {source.part(k)}" for k in call.keywords if k.arg in ("eps", "affine"))
        made = f"{source.part(call.func.value)}.GroupNorm({groups}, {source.part(call.args[0])}{rest})"
        done = source.swap(call, made) or done
    few = e.style.batch is not None and e.style.batch <= FEW
    if done and few and e.optimizer is not None and not e.optimizer.adaptive:  # smaller batches, a smaller rate
        numbers.learning_rate(source, e, {"factor": 0.1})
    return done
