"""Code that writes into weights besides the optimizer: what it writes is kept only where it is sound."""

import ast
from collections.abc import Mapping
from typing import Any

from nandoctor.evidence import Evidence
from nandoctor.patching import model
from nandoctor.patching.source import Source, last_name

Wanted = Mapping[str, Any]
IN_PLACE = ("copy_", "mul_", "div_", "add_", "sub_", "lerp_", "fill_", "clamp_", "normal_", "uniform_", "zero_",
            "addcdiv_", "addcmul_", "data")  # fmt: skip
FAR = 5.0  # times its own norm: averaging, pruning and clipping change a weight by less (causes/corrupt_weights.py)


def sound_writes(source: Source, e: Evidence, wanted: Wanted) -> bool:
    """A checkpoint is loaded only if it is finite; after a write, a weight that was finite is put back."""
    bad = e.bad
    if bad is not None and bad.writer == "load_state_dict":
        here = bad.file is not None and source.name.endswith(bad.file.rpartition("/")[2])
        return _checked_load(source, bad.line if here else None)
    if e.weights is not None and e.weights.checkpoint_loads and bad is None:
        return _kept_load(source, e)
    return _kept(source, e)


def _checked_load(source: Source, line: int | None) -> bool:
    calls = [c for c in source.calls("load_state_dict") if len(c.args) >= 1 and isinstance(c.func, ast.Attribute)]
    here = [c for c in calls if line is not None and c.lineno <= line <= (c.end_lineno or c.lineno)] or calls
    if len(here) != 1:
        return False
    call = here[0]
    statement = source.statement(call)
    if not isinstance(statement, ast.Expr) or statement.value is not call or not source.imports("torch"):
        return False
    state = source.part(call.args[0])
    lines = []
    if not isinstance(call.args[0], ast.Name):
        lines.append(f"state = {state}")
        state = "state"
    rest = "".join(f", {source.part(a)}" for a in (*call.args[1:], *call.keywords))
    finite = f"all(torch.isfinite(v).all() for v in {state}.values() if v.is_floating_point())"
    lines += [f"if {finite}:", f"    {source.part(call.func)}({state}{rest})"]
    return source.rewrite(statement, *lines)


def _kept_load(source: Source, e: Evidence) -> bool:
    calls = source.calls("load_state_dict")
    statement = source.statement(calls[0]) if len(calls) == 1 else None
    return statement is not None and _restored(source, e, statement, statement)


def _kept(source: Source, e: Evidence) -> bool:
    """The one block under no_grad that writes in place, outside of the layers' own code."""
    blocks = [node for node in ast.walk(source.tree) if isinstance(node, ast.With) and _writes(source, node)]
    if len(blocks) != 1:
        return False
    return _restored(source, e, blocks[0], blocks[0])


def _writes(source: Source, block: ast.With) -> bool:
    if not any("no_grad" in source.part(item.context_expr) for item in block.items) or model.in_module(source, block):
        return False
    if source.loop(block) is None and not isinstance(source.scope(block), ast.FunctionDef):
        return False  # before the loop: a first weight, no write between two steps
    for node in ast.walk(block):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in IN_PLACE:
            return True
        targets = node.targets if isinstance(node, ast.Assign) else []
        targets = [node.target] if isinstance(node, ast.AugAssign) else targets
        if any(isinstance(t, ast.Subscript) or last_name(t) == "data" for t in targets):
            return True
    return False


def _restored(source: Source, e: Evidence, first: ast.stmt, last: ast.stmt) -> bool:
    root = model.here(source, e, first)
    if root is None or not source.imports("torch"):
        return False
    kept = f"sound = [p.detach().clone() for p in {root}.parameters()]"
    lines = [
        "with torch.no_grad():  # a weight that this has damaged is put back",
        f"    for p, was in zip({root}.parameters(), sound):",
        f"        if not torch.isfinite(p).all() or (p - was).norm() > {FAR:g} * was.norm().clamp(min=1e-6):",
        "            p.copy_(was)",
    ]
    return source.above_it(first, kept) and source.below_it(last, *lines)
