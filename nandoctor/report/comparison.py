"""A comparison of two recordings as text, and as JSON by the schema of a diagnosis with one more key."""

import json as stdlib_json
import math
import textwrap
from typing import Any

from nandoctor.causes.wording import num
from nandoctor.comparison import MEANINGS, Comparison
from nandoctor.diagnosis import Diagnosis
from nandoctor.evidence.side_by_side import Parting, tolerance
from nandoctor.report import json, terminal
from nandoctor.report.plain import plain

SMALL = 0.01  # a difference that begins larger is as large as it can be, and grows no more
AFTER = (0, 1, 2, 5, 10, 20, 50, 100, 1000)  # steps after parting whose difference is told


def render(comparison: Comparison, full: bool = False, colour: bool = False) -> str:
    """The comparison, and the diagnosis behind it as far as 40 lines hold it."""
    lines = _lines(comparison)
    about = terminal.render(comparison.diagnosis, full=full, colour=colour).split("\n")
    who = "What that means" if comparison.kind == "hardware-fault" else "Diagnosis of A"
    lines += ["", f"{terminal.BOLD}{who}{terminal.OFF}" if colour else who]
    room = terminal.LINES - len(lines)
    if not full and len(about) > room:
        about = [*about[: room - 1], "... marks what is left out: nandoctor diagnose A B --full"]
    if colour:
        lines[0] = f"{terminal.BOLD}{terminal.GREEN if comparison.healthy else terminal.RED}{lines[0]}{terminal.OFF}"
    return "\n".join([*lines, *about])


def _lines(c: Comparison) -> list[str]:
    d = c.divergence
    lines = [f"{MEANINGS[c.kind]}."]
    if d.first is None:
        lines.append(f"  {d.rows:,} rows of {d.steps} steps were compared.")
    else:
        lines += ["", "Where they part", *_item(_place(d.first)), *_item(_equal_before(c))]
        if d.beyond is None:
            lines += _item(f"no difference is larger than {num(tolerance(d.first.dtype))} of its value")
        elif d.beyond != d.first:
            lines += _item(f"by more than rounding first at {_place(d.beyond)}")
        lines += _item(f"largest difference by step, relative: {_drift(c)}") if len(d.drift) else []
    lines += ["", "A and B", *_item(f"A is {c.a.run.path}, B is {c.b.run.path}")]
    for name, (left, right) in c.differs.items():
        lines += _item(f"not the same {name}: {left} in A, {right} in B")
    lines += _item(f"the same: {', '.join(c.same)}") if c.same else []
    lines += _item(_losses(c))
    agrees = "the same outcome" if c.outcome_agrees else "another outcome"
    lines += _item(f"{agrees}: A {_outcome(c.a)}; B {_outcome(c.b)}")
    return lines


def _item(text: str) -> list[str]:
    text = plain(f"- {text}", 2 * terminal.COLUMNS)
    return textwrap.wrap(
        text, terminal.COLUMNS, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False
    )


def _place(p: Parting) -> str:
    kind = p.kind.replace("_", " ")
    at = f"step {p.step}, phase {p.phase}, {kind}"
    if p.layer and p.layer != p.kind:
        at += f" of {p.layer}" + (f" ({p.module})" if p.module else "")
    if p.only_in is not None:
        return f"{at}: only {p.only_in} has it"
    a, b = (num(value) if isinstance(value, float) else str(value) for value in (p.a, p.b))
    if a == b:
        a, b = (repr(value) for value in (p.a, p.b))  # three digits hide it
    by = f", {num(p.relative)} of it" if math.isfinite(p.relative) else ""
    return f"{at}: {p.number} {a} in A, {b} in B{by}"


def _equal_before(c: Comparison) -> str:
    before = c.divergence.equal_before
    total = sum(before.values())
    if not total:
        return "nothing before it was the same"
    inputs = sum(before.get(kind, 0) for kind in ("batch", "labels", "input"))
    weights = before.get("weight", 0)
    rows = f"{total:,} row{'s' if total > 1 else ''}"
    return f"equal to the last bit before it: {rows}, {inputs:,} of inputs, {weights:,} of weights"


def _drift(c: Comparison) -> str:
    drift, first = c.divergence.drift, int(c.divergence.drift.steps[0])
    steps = [first + after for after in AFTER if drift.at(first + after) is not None]
    last = int(drift.steps[-1])
    told = [f"{num(drift.at(step))} at {step}" for step in dict.fromkeys([*steps[:6], last])]
    growth, small = c.divergence.growth, drift.values[0] < SMALL
    grows = f"; times {num(growth)} a step at first" if growth is not None and growth > 1 and small else ""
    return ", ".join(told) + grows


def _losses(c: Comparison) -> str:
    losses = c.losses
    if losses.end_a is None and losses.end_b is None:
        return "no loss was seen"
    if c.divergence.first is None:
        return "losses are equal throughout"
    until = f"are equal up to step {losses.equal_until}" if losses.equal_until is not None else "are never equal"
    ends = f"{num(losses.end_a)} in A, {num(losses.end_b)} in B"
    return f"losses {until}; at the end {ends}: they {'agree' if losses.agree else 'do not agree'}"


def _outcome(diagnosis: Diagnosis) -> str:
    bad, run = diagnosis.first_nonfinite, diagnosis.run
    code = "" if run.exit_code in (None, 0) else f", exit code {run.exit_code}"
    born = f", first non-finite at step {bad.step}" if bad is not None else ""
    return f"is {plain(diagnosis.verdict, 40)}{born}{code}"


# --- JSON ------------------------------------------------------------------------------------------------------
def render_json(comparison: Comparison) -> str:
    found = {**json.document(comparison.diagnosis), "comparison": document(comparison)}
    return stdlib_json.dumps(json.strict(found), indent=2, allow_nan=False, ensure_ascii=True)


def document(c: Comparison) -> dict[str, Any]:
    d = c.divergence
    return {
        "with": c.b.run.path,
        "reproducible": c.reproducible,
        "kind": c.kind,
        "meaning": MEANINGS[c.kind],
        "rows": d.rows,
        "steps": d.steps,
        "parts_at": _parting(d.first),
        "beyond_rounding_at": _parting(d.beyond),
        "equal_before": dict(d.equal_before),
        "drift": [[int(step), float(value)] for step, value in zip(d.drift.steps, d.drift.values, strict=True)][:1000],
        "growth_per_step": d.growth,
        "same": list(c.same),
        "differs": {name: list(pair) for name, pair in c.differs.items()},
        "losses": {
            "equal_until": c.losses.equal_until,
            "end": [c.losses.end_a, c.losses.end_b],
            "agree": c.losses.agree,
        },
        "outcome_agrees": c.outcome_agrees,
        "verdicts": [c.a.verdict, c.b.verdict],
    }


def _parting(p: Parting | None) -> dict[str, Any] | None:
    if p is None:
        return None
    return {
        "step": p.step, "phase": p.phase, "kind": p.kind, "layer": p.layer, "module": p.module, "tensor": p.tensor,
        "number": p.number, "values": [p.a, p.b], "relative": p.relative, "tolerance": tolerance(p.dtype),
        "only_in": p.only_in,
    }  # fmt: skip
