"""Traces come from strangers: whatever they hold, gathering and judging do not raise and reports are printed."""

import json
from pathlib import Path
from typing import Any

import jsonschema
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nandoctor.causes import CAUSES
from nandoctor.diagnosis import diagnose_trace
from nandoctor.errors import UserError
from nandoctor.evidence import gather
from nandoctor.report import json as json_report
from nandoctor.report import terminal
from nandoctor.trace.schema import DTYPES, KINDS, MODES
from nandoctor.trace.trace import Trace
from tests.builders import Run

SCHEMA = json.loads((Path(json_report.__file__).parents[1] / "contract" / "diagnosis.schema.json").read_text())
NUMBER = st.floats(width=64) | st.sampled_from([0.0, 1.0, 2.0, 65504.0, float("nan"), float("inf")])
JUNK = st.none() | st.booleans() | st.integers() | NUMBER | st.text(max_size=8) | st.just("\x1b[31mred\x07")
VALUE = JUNK | st.lists(JUNK, max_size=3) | st.dictionaries(st.text(max_size=5), JUNK, max_size=3)
OPS = st.sampled_from(["log", "div", "std", "softmax", "linear", "pow", "exp", "mul", "sqrt", None])
OPERAND = st.fixed_dictionaries({}, optional={
    "role": st.sampled_from(["self", "other", "result", "mask"]) | JUNK, "dtype": st.sampled_from(DTYPES) | JUNK,
    "shape": st.lists(st.integers(), max_size=3) | JUNK, "low": JUNK, "high": JUNK, "nan": JUNK, "inf": JUNK,
    "zeros": JUNK})  # fmt: skip
INCIDENT = st.fixed_dictionaries({"note": st.just("incident")}, optional={
    "alarm": st.sampled_from(["loss", "gradient", "weight", "evaluation"]) | JUNK, "step": JUNK, "mode": JUNK,
    "phase": st.sampled_from(["input", "forward", "loss", "backward", "optimizer", "weights"]) | JUNK, "op": OPS | JUNK,
    "layer": JUNK, "module": JUNK, "place": VALUE, "tensor": JUNK, "row": JUNK, "kind": st.sampled_from(["nan", "inf"]),
    "dtype": st.sampled_from(["float16", "float32"]), "operands": st.lists(OPERAND, max_size=3) | VALUE,
    "writer": st.sampled_from(["initial", "foreign", "load_state_dict"]) | JUNK, "masked_rows": JUNK, "skipped": JUNK,
    "epoch": JUNK, "batch": JUNK, "unknown": JUNK})  # fmt: skip
OTHER = st.fixed_dictionaries(
    {"note": st.sampled_from(["optimizer", "exception", "end", "model", "autocast", "unseen", "probe_failed"])},
    optional={"id": VALUE, "class": VALUE, "groups": st.lists(VALUE, max_size=2) | VALUE, "tree": VALUE, "type": VALUE,
              "message": VALUE | st.just("Target 7 is out of bounds."), "frames": VALUE, "exit_code": VALUE,
              "enabled": VALUE, "dtype": VALUE, "text": VALUE, "probe": VALUE, "error": VALUE, "step": VALUE},
)  # fmt: skip
ROW = st.tuples(st.sampled_from(list(KINDS)), st.sampled_from(["a", "b", "unscale_", "update", "step"]), NUMBER, NUMBER,
                NUMBER, st.sampled_from([(), (1,), (4, 3), (1, 0), (2, 3, 4, 4)]), st.sampled_from(DTYPES),
                st.sampled_from(MODES), st.integers(0, 255))  # fmt: skip


def made_of(rows: list[Any], notes: list[dict[str, Any]]) -> Trace:
    made = Run()
    for kind, name, a, b, c, shape, dtype, mode, flags in rows:
        names = [number for number in KINDS[kind] if number]
        numbers = dict(zip(names, (a, b, c), strict=False))
        made.row(kind, name, shape=shape or None, dtype=dtype, mode=mode, flags=flags, **numbers)
    made.notes += notes
    return made.trace()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(ROW, max_size=40), st.lists(INCIDENT | OTHER, max_size=5))
def test_no_judge_raises_and_every_diagnosis_can_be_told(rows: list[Any], notes: list[dict[str, Any]]):
    trace = made_of(rows, notes)
    evidence = gather(trace)
    for cause in CAUSES:
        cause.judge(evidence)
        cause.remedies(evidence)
    try:
        diagnosis = diagnose_trace(trace)
    except UserError:
        return
    jsonschema.validate(json.loads(json_report.render(diagnosis), parse_constant=_no_constant), SCHEMA)
    text = terminal.render(diagnosis)
    assert len(text.splitlines()) <= 40 and max(map(len, text.splitlines())) <= 100
    assert "\x1b" not in text + terminal.render(diagnosis, full=True)


def _no_constant(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")
