"""The training loop of a script: clip, zero_grad, unscale_, update, and the loss that backward is called on."""

import ast
from collections.abc import Mapping
from typing import Any

from nandoctor.evidence import Evidence
from nandoctor.patching import roles
from nandoctor.patching.source import Source

CLIPS = ("clip_grad_norm_",)
Wanted = Mapping[str, Any]


def steps(source: Source) -> list[tuple[ast.Call, ast.stmt, str]]:
    """optimizer.step() and scaler.step(optimizer): the call, its statement, the optimizer as the script writes it."""
    found = []
    optimizers, scalers = roles.optimizers(source), roles.scalers(source)
    for call in source.calls("step"):
        statement = source.alone(call)
        if statement is None or not isinstance(call.func, ast.Attribute):
            continue
        owner = source.part(call.func.value)
        if call.args and (owner in scalers or "scal" in owner.lower()):
            found.append((call, statement, source.part(call.args[0])))
        elif not call.args and (owner in optimizers or "opt" in owner.lower()):
            found.append((call, statement, owner))
    return found


def scaler_name(source: Source) -> str | None:
    """As the training loop writes it, else as it was made."""
    known = roles.scalers(source)
    for call in source.calls("unscale_", "update", "scale", "step"):
        if isinstance(call.func, ast.Attribute):
            owner = source.part(call.func.value)
            if owner in known or "scaler" in owner.lower():
                return owner
    return min(known) if known else None


def model_name(source: Source, e: Evidence) -> str:
    """As the script writes it: what the optimizer's constructor was given, else as the trace knows it."""
    for call in source.calls("parameters"):
        if isinstance(call.func, ast.Attribute):
            return source.part(call.func.value)
    return e.style.model


def clip(source: Source, e: Evidence, wanted: Wanted) -> bool:
    limit = wanted.get("max_norm")
    if not isinstance(limit, (int, float)) or limit <= 0:
        return False
    text = f"{float(limit):g}"
    text = text if "." in text or "e" in text else f"{text}.0"
    known = source.calls(*CLIPS)
    if known:
        done = False
        for call in known:
            named = next((k.value for k in call.keywords if k.arg == "max_norm"), None)
            value = named or (call.args[1] if len(call.args) > 1 else None)
            done = (source.swap(value, text) if value is not None else False) or done
        return done
    scaler = scaler_name(source)
    done = False
    for _, statement, optimizer in steps(source):
        if scaler is not None:
            source.insert_before(statement.lineno, f"{scaler}.unscale_({optimizer})")
        parameters = f"[p for group in {optimizer}.param_groups for p in group['params']]"
        done = source.insert_before(
            statement.lineno, f"torch.nn.utils.clip_grad_norm_({parameters}, max_norm={text})"
        )
    return done


def unscale(source: Source, e: Evidence, wanted: Wanted) -> bool:
    scaler, done = scaler_name(source), False
    optimizers = [optimizer for _, _, optimizer in steps(source)]
    for call in source.calls(*CLIPS, "clip_grad_value_"):
        statement = source.alone(call)
        if statement is not None and scaler is not None and optimizers:
            done = source.insert_before(statement.lineno, f"{scaler}.unscale_({optimizers[0]})")
    if done:  # an unscale_ that comes after the clip would be the second
        for call in source.calls("unscale_"):
            statement = source.alone(call)
            if statement is not None:
                source.remove(statement)
    return done


def unscale_once(source: Source, e: Evidence, wanted: Wanted) -> bool:
    calls = source.calls("unscale_")
    statements = [statement for call in calls[1:] if (statement := source.alone(call)) is not None]
    return bool(statements) and all([source.remove(statement) for statement in statements])


def update(source: Source, e: Evidence, wanted: Wanted) -> bool:
    scaler = scaler_name(source)
    found = [one for one in steps(source) if one[0].args]
    if scaler is None or not found:
        return False
    return source.insert_after(found[-1][1], f"{scaler}.update()")


def scaler_step(source: Source, e: Evidence, wanted: Wanted) -> bool:
    scaler, done = scaler_name(source), False
    for call, statement, optimizer in steps(source):
        if scaler is not None and not call.args and source.swap(call, f"{scaler}.step({optimizer})"):
            done = source.insert_after(statement, f"{scaler}.update()")
    return done


def backwards(source: Source) -> list[tuple[ast.Call, str]]:
    return [(call, source.part(call.func.value)) for call in source.calls("backward")
            if isinstance(call.func, ast.Attribute) and not call.args]  # fmt: skip


def scaled_backward(source: Source, e: Evidence, wanted: Wanted) -> bool:
    scaler = scaler_name(source)
    done = False
    for call, loss in backwards(source):
        if scaler is not None and "scale" not in loss:
            done = source.swap(call, f"{scaler}.scale({loss}).backward()") or done
    return done


def zero_grad(source: Source, e: Evidence, wanted: Wanted) -> bool:
    """Before each backward; several backward calls for a step are left to the person."""
    if e.accumulation is not None and (e.accumulation.backwards or 1) > 1:
        return False
    done, optimizers = False, list(dict.fromkeys(optimizer for _, _, optimizer in steps(source)))
    for call, _ in backwards(source):
        statement = source.alone(call)
        if statement is not None and optimizers:
            for optimizer in optimizers:
                done = source.insert_before(statement.lineno, f"{optimizer}.zero_grad()")
    return done


def zero_grad_moved(source: Source, e: Evidence, wanted: Wanted) -> bool:
    """The zero_grad that stands right before a step goes behind it."""
    done = False
    for _, statement, _ in steps(source):
        for call in source.calls("zero_grad"):
            clearing = source.alone(call)
            if clearing is not None and 0 < statement.lineno - clearing.lineno <= 6:
                text = source.part(clearing)
                if source.remove(clearing):
                    done = source.insert_after(statement, text)
    return done


def divide(source: Source, e: Evidence, wanted: Wanted) -> bool:
    by = wanted.get("by")
    if not isinstance(by, (int, float)) or by < 2:
        return False
    done = False
    for call, loss in backwards(source):
        if isinstance(call.func, ast.Attribute):
            done = source.swap(call.func.value, f"({loss} / {by:g})") or done
    return done


def loss_cap(source: Source, e: Evidence, wanted: Wanted) -> bool:
    """`continue` is only possible in a loop, which a backward nearly always stands in."""
    done = False
    for call, loss in backwards(source):
        statement = source.alone(call)
        if statement is not None and loss.isidentifier() and _in_loop(source, statement):
            source.insert_before(statement.lineno, f"if not torch.isfinite({loss}) or {loss} > 1e6:")
            done = source.insert_before(statement.lineno, "    continue")
    return done


def _in_loop(source: Source, statement: ast.stmt) -> bool:
    return any(
        isinstance(loop, (ast.For, ast.While)) and any(inner is statement for inner in ast.walk(loop))
        for loop in ast.walk(source.tree)
    )  # fmt: skip


def warm_up(source: Source, e: Evidence, wanted: Wanted) -> bool:
    """A schedule of its own, where the script has none."""
    length = wanted.get("steps")
    if e.style.schedule or not isinstance(length, int):
        return False
    found = steps(source)
    made = next((source.alone(call) for call in source.calls("SGD", "Adam", "AdamW", "RMSprop")), None)
    if not found or made is None:
        return False
    optimizer = found[0][2]
    schedule = f"torch.optim.lr_scheduler.LinearLR({optimizer}, 0.1, total_iters={length})"
    source.insert_after(made, f"warm_up = {schedule}")
    return source.insert_after(found[0][1], "warm_up.step()")
