"""Real training scripts, recorded and diagnosed: the spine of the suite.

Each runs plain and recorded under a random name, without comments. One test per promise and script; the recording and
the diagnosis are made once and shared.
"""

import json
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import nandoctor
from nandoctor.trace.open import open_trace
from tests.harness import CACHE, NONE, Label, Run, diagnose, healed, labels, lines_with, marks, run_plain, run_recorded

CORPUS = {**labels("scripts"), **labels("unseen")}
ALL = pytest.mark.parametrize("name", CORPUS)
SICK = pytest.mark.parametrize("name", [label.name for label in CORPUS.values() if label.sick])
MINIMUM_SICK, MINIMUM_HEALTHY = 12, 6  # what the first issue asks for


@cache
def program_of(name: str) -> str:
    return healed(CORPUS[name], ())


@cache
def plain(name: str) -> Run:
    return run_plain(program_of(name))


@cache
def recorded(name: str) -> Run:
    trace = CACHE.parent / "traces" / f"{name}.parquet"
    trace.unlink(missing_ok=True)
    return run_recorded(program_of(name), trace)


def trace_of(name: str) -> Path:
    trace = recorded(name).trace
    assert trace is not None, f"no trace was written: {recorded(name).said}"
    return trace


@cache
def diagnosis(name: str) -> dict[str, Any]:
    return diagnose(trace_of(name))


def assert_marks(label: Label, fields: tuple[str, ...]) -> None:
    found = marks(label, program_of(label.name), diagnosis(label.name), recorded(label.name).file)
    wrong = [f"{m.field}: wanted {m.wanted}, got {m.got}" for m in found if m.field in fields and not m.right]
    assert not wrong, "; ".join(wrong)


@ALL
def test_a_label_fits_its_script(name: str) -> None:
    label, program = CORPUS[name], program_of(name)
    assert "#" not in program and name not in program
    assert plain(name).exit_code == label.exit_code
    for text in label.line_text:
        assert text == NONE or len(lines_with(program, text)) == 1, text


@SICK
def test_the_named_cure_heals(name: str) -> None:
    label = CORPUS[name]
    cured = run_plain(healed(label, label.heal))
    assert cured.exit_code == 0, cured.stderr
    assert cured.finite(), cured.stdout[-500:]


@pytest.mark.parametrize("name", [label.name for label in CORPUS.values() if label.tenth])
def test_a_tenth_of_the_lr_does_not_cure_exploding_gradients(name: str) -> None:
    label = CORPUS[name]
    assert not run_plain(healed(label, label.tenth)).finite()


@ALL
def test_a_recorded_run_prints_and_ends_as_the_plain_one(name: str) -> None:
    assert recorded(name).stdout == plain(name).stdout
    assert recorded(name).exit_code == plain(name).exit_code
    assert recorded(name).compared()["stderr"] == plain(name).compared()["stderr"]
    assert 0 < len(recorded(name).said.splitlines()) <= 2, recorded(name).said


@ALL
def test_a_recorded_run_ends_with_the_same_bits(name: str) -> None:
    digest = plain(name).digest
    assert digest is not None and digest["tensors"] > 0
    assert recorded(name).digest == digest


@ALL
def test_every_expected_probe_wrote_rows(name: str) -> None:
    kinds = set(nandoctor.read_trace(trace_of(name))["kind"].unique())
    assert set(CORPUS[name].probes) <= kinds


@ALL
def test_no_probe_failed(name: str) -> None:
    failed = open_trace(trace_of(name)).notes_of("probe_failed")
    assert not failed


@ALL
def test_the_verdict_is_right(name: str) -> None:
    assert_marks(CORPUS[name], ("verdict", "exit"))


@ALL
def test_the_first_bad_value_is_placed(name: str) -> None:
    assert_marks(CORPUS[name], ("phase", "step", "layer", "op", "line", "row", "index", "batch", "tensor"))


@ALL
def test_the_run_is_told_as_it_was(name: str) -> None:
    assert_marks(CORPUS[name], ("run", "steps"))


@ALL
def test_the_diagnosis_follows_its_schema(name: str) -> None:
    schema = json.loads((files("nandoctor") / "contract" / "diagnosis.schema.json").read_text(encoding="utf-8"))
    found = {key: value for key, value in diagnosis(name).items() if key != "exit"}
    jsonschema.validate(found, schema)


def test_the_corpus_is_broad_enough() -> None:
    seen = labels("scripts").values()
    causes = {label.cause for label in seen}
    assert sum(label.sick for label in seen) >= MINIMUM_SICK
    assert sum(not label.sick for label in seen) >= MINIMUM_HEALTHY
    for cause in causes:
        assert sum(label.cause == cause for label in seen) >= 2, cause


@pytest.mark.parametrize("folder", ["scripts", "unseen"])
def test_every_script_has_a_label(folder: str) -> None:
    assert {path.stem for path in (Path(__file__).parent / folder).glob("*.py")} == set(labels(folder))
