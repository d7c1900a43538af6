"""--json follows the contract's schema and is strict JSON."""

import json
import math
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest

from nandoctor.report import json as report
from tests.builders import trace
from tests.causes.patients import HEALTHY, PATIENTS
from tests.report.test_terminal import diagnosis_of

SCHEMA = json.loads((Path(report.__file__).parents[1] / "contract" / "diagnosis.schema.json").read_text())


def read(text: str):
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize("name", PATIENTS)
def test_every_diagnosis_follows_the_schema(name: str):
    document = read(report.render(diagnosis_of(PATIENTS[name], name)))
    jsonschema.validate(document, SCHEMA)
    assert document["verdict"] == document["findings"][0]["cause"] == name


def test_a_healthy_run_has_no_findings_and_no_first_value():
    document = read(report.render(diagnosis_of(HEALTHY, "healthy")))
    jsonschema.validate(document, SCHEMA)
    assert document["findings"] == [] and document["first_nonfinite"] is None


def test_numbers_that_are_not_finite_become_words():
    assert report.strict([math.nan, math.inf, {"x": -math.inf}, 1.5]) == ["nan", "inf", {"x": "-inf"}, 1.5]


def test_optional_keys_appear_only_where_they_are_known():
    document = read(report.render(diagnosis_of(PATIENTS["bad-input-data"], "bad-input-data")))
    first = document["first_nonfinite"]
    assert (first["row"], first["index"], first["batch"], first["tensor"]) == (17, 3, 12, "0")
    assert "epoch" not in first and "library_file" not in first
    assert first["layer"] is None and first["op"] is None


def test_the_signal_of_a_killed_run_is_a_negative_exit_code():
    from nandoctor.diagnosis import diagnose_trace

    document = read(report.render(diagnose_trace(trace(loss="2 2 2", exit_code=-15))))
    assert document["run"]["exit_code"] == -15
    assert document["run"]["command"] == "python train.py" and document["run"]["torch"] == "2.13.0"


def test_an_unknown_exit_code_is_null():
    assert report.document(replace(diagnosis_of(HEALTHY, "healthy", exit_code=None)))["run"]["exit_code"] is None
