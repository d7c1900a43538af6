"""A diagnosis as strict JSON by nandoctor/contract/diagnosis.schema.json."""

import json
import math
from typing import Any

from nandoctor.diagnosis import Diagnosis, Finding
from nandoctor.evidence import Action, Bad

SCHEMA_VERSION = 1


def render(diagnosis: Diagnosis) -> str:
    return json.dumps(strict(document(diagnosis)), indent=2, allow_nan=False, ensure_ascii=True)


def document(diagnosis: Diagnosis) -> dict[str, Any]:
    run = diagnosis.run
    bad = diagnosis.first_nonfinite
    return {
        "schema_version": SCHEMA_VERSION,
        "verdict": diagnosis.verdict,
        "findings": [_finding(finding) for finding in diagnosis.findings],
        "first_nonfinite": None if bad is None else _first_nonfinite(bad),
        "run": {
            "path": run.path,
            "command": run.command,
            "steps": run.steps,
            "ranks": 1,
            "exit_code": run.exit_code,
            "torch": run.torch,
        },
        "not_seen": list(diagnosis.not_seen),
        **({"treated": [_action(action) for action in treated]} if (treated := diagnosis.evidence.treated) else {}),
    }


def _action(action: Action) -> dict[str, Any]:
    named = ("step", "event", "treatment", "cause", "what", "why", "undo", "count")
    return {name: getattr(action, name) for name in named}


def strict(value: Any) -> Any:
    """JSON has no NaN: non-finite numbers become "nan", "inf", "-inf"."""
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    if isinstance(value, dict):
        return {key: strict(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [strict(item) for item in value]
    return value


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "cause": finding.cause,
        "confidence": finding.confidence,
        "summary": finding.summary,
        "evidence": [
            {"fact": f.fact, "value": f.value, "threshold": f.threshold, "step": f.step, "layer": f.layer}
            for f in finding.verdict.evidence
        ],
        "remedies": [
            {"title": r.title, "change": r.change, "source": r.source, "treatment": r.treatment}
            | ({"code": r.code} if r.code else {})
            for r in finding.remedies
        ],
        "against": list(finding.verdict.against),
    }


def _first_nonfinite(bad: Bad) -> dict[str, Any]:
    optional = {
        "tensor": bad.tensor,
        "library_file": bad.library_file,
        "row": bad.row,
        "index": bad.index,
        "batch": bad.batch,
        "epoch": bad.epoch,
        "micro": bad.micro,
        "library_line": bad.library_line,
    }
    return {
        "rank": 0,
        "step": bad.step,
        "phase": bad.phase,
        "layer": bad.layer,
        "module": bad.module,
        "op": bad.op,
        "file": bad.file,
        "line": bad.line,
        "mode": bad.mode,
        **{key: value for key, value in optional.items() if value is not None},
    }
