"""Half precision: weights back in float32, and a loss scale where float16 runs without one."""

import ast
from collections.abc import Mapping
from typing import Any

from nandoctor.evidence import Evidence
from nandoctor.patching import roles
from nandoctor.patching.loops import backwards, steps
from nandoctor.patching.source import Source, last_name

Wanted = Mapping[str, Any]
CASTS = ("half", "bfloat16")
TYPES = ("float16", "bfloat16", "half")


def full_weights(source: Source, e: Evidence, wanted: Wanted) -> bool:
    """Every .half() and .bfloat16() is left out, and .to(torch.bfloat16) goes to float32; autocast stays."""
    done = False
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and not node.keywords:
            if node.func.attr in CASTS and not node.args:
                done = source.swap(node, source.part(node.func.value)) or done
        elif isinstance(node, ast.Attribute) and node.attr in TYPES and source.part(node.value) == "torch":
            if not _for_autocast(source, node):
                done = source.swap(node, "torch.float32") or done
    return done


def _for_autocast(source: Source, node: ast.AST) -> bool:
    return any(isinstance(up, ast.Call) and last_name(up.func) == "autocast" for up in source.above(node))


def scaled(source: Source, e: Evidence, wanted: Wanted) -> bool:
    """A GradScaler, made beside the optimizer, scales the loss and takes the step."""
    if e.style.cuda is not None or source.calls("GradScaler") or not source.imports("torch"):
        return False  # which device it runs on is known only where there is no other
    made = [(call, source.statement(call)) for call in source.calls(*roles.KNOWN)]
    taken, losses = steps(source), backwards(source)
    if len(made) != 1 or len(taken) != 1 or len(losses) != 1 or e.style.clips:
        return False
    statement = made[0][1]
    if not isinstance(statement, ast.Assign) or statement.value is not made[0][0] or len(statement.targets) != 1:
        return False
    owner = source.part(statement.targets[0])
    call, step, optimizer = taken[0]
    backward, loss = losses[0]
    name = "self.scaler" if owner.startswith("self.") else "scaler"
    if owner != optimizer or (name == "scaler" and source.scope(statement) is not source.scope(step)):
        return False
    return (
        source.below_it(statement, f'{name} = torch.amp.GradScaler("cpu")')
        and source.swap(backward, f"{name}.scale({loss}).backward()")
        and source.swap(call, f"{name}.step({optimizer})")
        and source.below_it(step, f"{name}.update()")
    )
