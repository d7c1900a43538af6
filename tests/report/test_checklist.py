"""The documents' checklist, and the guide's last questions, filled in from the trace."""

from dataclasses import replace
from typing import Any

import pytest

from nandoctor.diagnosis import diagnose_trace
from nandoctor.evidence import Evidence
from nandoctor.report import checklist, questions, terminal
from tests.builders import trace
from tests.causes.patients import HEALTHY, PATIENTS
from tests.report.test_terminal import diagnosis_of


def styled(patient: Evidence = HEALTHY, **style: Any) -> Evidence:
    return replace(patient, style=replace(patient.style, **style))


def answers(e: Evidence) -> dict[str, str]:
    return {item.name: item.answer for item in checklist.items(e)}


def test_what_the_trace_cannot_tell_is_left_out():
    bare = Evidence(0, HEALTHY.incidents, HEALTHY.onset, HEALTHY.precision, HEALTHY.style)
    assert answers(bare) == {} and checklist.short(bare) == []
    assert "GradScaler" not in answers(HEALTHY) and "NaN guard" not in answers(HEALTHY)


def test_answers_are_this_runs_own():
    assert HEALTHY.gradients is not None
    clipped = replace(HEALTHY, gradients=replace(HEALTHY.gradients, max_norm=1.0, clipped_share=0.25))
    found = answers(styled(clipped, clips=True, warm_up=7, batch=32, saves=2, guarded=True))
    assert found["clipping"] == "at 1, cut 25 % of the steps" and found["warm-up"] == "7 steps"
    assert found["batch size"] == "32" and found["checkpoints"] == "2 saved" and found["NaN guard"] == "yes"
    assert found["schedule"] == "no, lr 0.05" and found["gradient norm"] == "usually 1, at most 2"
    assert answers(HEALTHY)["clipping"] == "no"


@pytest.mark.parametrize("scaler, answer", [(True, "yes"), (False, "no")])
def test_a_grad_scaler_is_asked_for_where_fp16_is_used(scaler: bool, answer: str):
    half = replace(HEALTHY.precision, float16=True, autocast="float16", scaler=scaler)
    found = answers(replace(HEALTHY, precision=half))
    assert found["GradScaler"] == answer and found["precision"] == "float16 autocast"


@pytest.mark.parametrize("name", PATIENTS)
def test_the_report_ends_with_it_in_three_lines_and_with_all_of_it_in_full(name: str):
    patient = styled(PATIENTS[name], warm_up=0, batch=32, guarded=False, saves=3)
    lines = terminal.render(diagnosis_of(patient, name)).splitlines()
    begin = next(number for number, line in enumerate(lines) if line.startswith("Checklist:"))
    assert 1 <= len(lines) - begin <= 3 and len(lines) <= 40 and max(map(len, lines)) <= 100
    full = terminal.render(diagnosis_of(patient, name), full=True).partition("Checklist of the documents")[2]
    flat = " ".join(full.split())
    for item in checklist.items(patient):
        assert f"- {item.name}: {item.answer} [" in flat and item.asks in flat


def test_a_healthy_report_stays_a_line_and_tells_all_in_full():
    assert "Checklist" not in terminal.render(diagnosis_of(HEALTHY, "healthy"))
    full = terminal.render(diagnosis_of(styled(HEALTHY, warm_up=0), "healthy"), full=True)
    assert "If it converges slowly" in full and "- warm-up: no [stability-guide: 5-10 % of all steps]" in full


def test_a_long_name_leaves_room_for_the_rest():
    assert HEALTHY.optimizer is not None
    lines = checklist.short(replace(HEALTHY, optimizer=replace(HEALTHY.optimizer, name="x" * 300)))
    assert len(lines) <= 3 and max(map(len, lines)) <= 100 and "xxx" not in "".join(lines)


@pytest.mark.parametrize("version, said", [
    ("2.13.0+cpu", "No: it is 2.13.0+cpu."), ("2.12.1", "Hardly: 2.12.1 is 1 release behind 2.13."),
    ("2.4.0", "Yes: 2.4.0 is 9 releases behind 2.13; try the newest."), ("1.13.1", "Yes: 1.13.1 is of an older"),
    ("3.0.0", "No: it is 3.0.0."), (None, "The trace does not name its version"), ("nightly", "The trace does not"),
])  # fmt: skip
def test_an_old_torch_is_said_to_be_old(version: str | None, said: str):
    assert questions.answers(styled(torch=version))[0].startswith(f"Is PyTorch too old? {said}")


def test_cuda_and_driver_are_asked_for_where_there_is_one():
    _, match, driver, _ = questions.answers(styled(torch="2.9.0+cu126", cuda="12.6"))
    assert "built for CUDA 12.6" in match and "nvidia-smi" in driver
    _, match, driver, _ = questions.answers(styled(torch="2.9.0+cpu"))
    assert "without CUDA" in match and "No NVIDIA GPU" in driver
    _, match, driver, _ = questions.answers(styled(torch="2.9.0+rocm6.4"))
    assert "ROCm" in match and "rocm-smi" in driver


def test_the_data_set_is_judged_by_what_was_read():
    assert HEALTHY.data is not None
    data = questions.answers(HEALTHY)[3]
    assert "Not in what was read: 100 recorded tensors, all finite" in data
    assert "Yes: 2 of 100" in questions.answers(replace(HEALTHY, data=replace(HEALTHY.data, bad_batches=2)))[3]
    assert "Perhaps" in questions.answers(PATIENTS["data-outlier"])[3]
    assert "saw no batch" in questions.answers(replace(HEALTHY, data=None))[3]


def test_an_unknown_failure_gets_the_guides_configuration_and_its_last_questions():
    incident = {"note": "incident", "step": 2, "phase": "forward", "alarm": "loss", "unknown": "it was compiled"}
    diagnosis = diagnose_trace(trace(loss="2 2 nan", notes=[incident]))
    text = terminal.render(diagnosis)
    assert diagnosis.verdict == "unknown" and len(text.splitlines()) <= 40
    assert "1. Train again with the guide's stable configuration: lr 0.1 -> 0.05" in text
    for question in ("too old? No: it is 2.13.0.", "Does CUDA match it?", "driver sound?", "data set corrupt?"):
        assert question in text


def test_papers_are_named_in_full_where_everything_is_asked_for():
    sequences = PATIENTS["exploding-gradients"]
    text = terminal.render(diagnosis_of(sequences, "exploding-gradients"), full=True)
    assert "[pascanu-2013] Pascanu, Mikolov, Bengio" in text
