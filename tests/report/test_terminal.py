"""The report that a person in a hurry reads."""

from dataclasses import replace
from typing import Any

import pytest

from nandoctor.causes import CAUSES
from nandoctor.causes.cause import Verdict
from nandoctor.diagnosis import FAINT, Diagnosis, Finding, Run, diagnose_trace
from nandoctor.evidence import Crash, Evidence
from nandoctor.report import terminal
from tests.builders import run, trace
from tests.causes.patients import HEALTHY, PATIENTS

RUN = Run("run.parquet", "python train.py", 100, 0, "2.13.0", False, None)


def diagnosis_of(evidence: Evidence, verdict: str, not_seen: tuple[str, ...] = (), **about_run: Any) -> Diagnosis:
    findings = []
    for cause in CAUSES:
        answer = cause.judge(evidence)
        if isinstance(answer, Verdict):
            findings.append(Finding(cause.id, cause.title, answer.confidence, answer.summary, answer,
                                    cause.remedies(evidence)))  # fmt: skip
    findings.sort(key=lambda finding: -finding.confidence)
    return Diagnosis(verdict, tuple(findings), evidence.bad, replace(RUN, **about_run), evidence, not_seen)


@pytest.mark.parametrize("name", PATIENTS)
def test_it_fits_forty_lines_of_a_hundred_columns(name: str):
    lines = terminal.render(diagnosis_of(PATIENTS[name], name, ("x " * 200,) * 9)).splitlines()
    assert len(lines) <= 40 and max(map(len, lines)) <= 100


@pytest.mark.parametrize("name", PATIENTS)
def test_verdict_and_confidence_stand_in_the_first_line(name: str):
    first = terminal.render(diagnosis_of(PATIENTS[name], name)).splitlines()[0]
    assert first.startswith(f"{name} (confidence ") and "%" in first


def test_the_birth_is_told_with_its_line_and_the_text_of_that_line():
    text = terminal.render(diagnosis_of(PATIENTS["lr-too-high"], "lr-too-high"))
    assert "step 40, layer head (Linear), operation linear" in text
    assert "train.py:12    y = head(x)" in text


def test_remedies_tell_the_exact_change_its_source_and_a_code_line():
    text = terminal.render(diagnosis_of(PATIENTS["lr-too-high"], "lr-too-high"))
    assert "lr 1.5 -> 0.05" in text and "[nan-guide]" in text
    assert "torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)" in text


def test_full_leaves_nothing_out():
    sick = diagnosis_of(PATIENTS["lr-too-high"], "lr-too-high", tuple(f"missing {n}" for n in range(9)))
    short, full = terminal.render(sick), terminal.render(sick, full=True)
    assert "--full" in short and "missing 8" not in short
    assert "missing 8" in full and "more" not in full.rpartition("Not seen")[2]
    for remedy in sick.findings[0].remedies:
        assert remedy.title in full


def test_other_candidates_come_with_what_speaks_against_them():
    sick = diagnosis_of(PATIENTS["unsafe-op"], "unsafe-op")
    weak = replace(sick.findings[0], cause="fp16-overflow", confidence=0.3,
                   verdict=replace(sick.findings[0].verdict, against=("log does not overflow",)))  # fmt: skip
    text = terminal.render(replace(sick, findings=(sick.findings[0], weak)))
    assert "fp16-overflow (30%)" in text and "against: log does not overflow" in " ".join(text.split())


def test_a_candidate_that_is_hardly_likely_is_told_only_in_full():
    sick = diagnosis_of(PATIENTS["unsafe-op"], "unsafe-op")
    faint = replace(sick, findings=(sick.findings[0], replace(sick.findings[0], cause="lr-too-high", confidence=0.18)))
    assert "lr-too-high" not in terminal.render(faint)
    assert "lr-too-high (18%)" in terminal.render(faint, full=True)


def test_a_candidate_that_is_hardly_likely_asserts_nothing():
    optimizer = {"lr": 0.02, "optimizer": "Adam", "weights": {"w": 1.0}, "updates": {"w": 0.016}}
    incident = {"note": "incident", "step": 6, "phase": "loss", "op": "neg", "kind": "nan"}
    found = diagnose_trace(trace(loss="2 2 2 2 2 2 nan", notes=[incident], **optimizer)).findings
    faint = [finding for finding in found if finding.confidence <= FAINT]
    assert faint and all(finding.summary.startswith("Hardly likely; for it: ") for finding in faint)


@pytest.mark.parametrize("name", PATIENTS)
def test_a_code_line_is_shown_whole_or_not_at_all(name: str):
    diagnosis = diagnosis_of(PATIENTS[name], name)
    flat = " ".join(terminal.render(diagnosis).split())
    shown = [remedy for remedy in diagnosis.findings[0].remedies if remedy.code and f". {remedy.title}:" in flat]
    assert shown
    for remedy in shown:
        assert " ".join((remedy.code or "").split()) in flat


def test_a_long_code_line_breaks_behind_a_comma_and_fits():
    diagnosis = diagnosis_of(PATIENTS["lr-too-high"], "lr-too-high")
    lines = terminal.render(diagnosis, full=True).splitlines()
    place = next(number for number, line in enumerate(lines) if "SequentialLR(" in line)
    assert lines[place].endswith(",") and lines[place + 1].startswith("         ")
    assert all(len(line) <= 100 for line in lines)


def test_remedies_give_way_whole_where_the_report_is_too_long():
    sick = diagnosis_of(PATIENTS["lr-too-high"], "lr-too-high", ("x " * 200,) * 9)
    kept = terminal.render(sick).partition("What to do")[2].partition("\n\n")[0].splitlines()[1:]
    first = sick.findings[0].remedies
    told = sum(f". {remedy.title}" in " ".join(kept) for remedy in first)
    assert 0 < told < len(first) and kept[-1] == f"  ... {len(first) - told} more"


def test_a_healthy_run_is_told_in_one_line():
    assert terminal.render(diagnosis_of(HEALTHY, "healthy")) == "healthy: nothing failed in 100 steps."


def test_a_killed_healthy_run_says_so_in_one_more_line():
    text = terminal.render(diagnosis_of(HEALTHY, "healthy", exit_code=-9))
    assert text.splitlines()[1:] == ["The run was killed by SIGKILL after 100 steps."]


def test_another_exception_is_told_with_its_place():
    crash = Crash("KeyError", "'lr'", "train.py", 3, "x = d['lr']", None)
    text = terminal.render(diagnosis_of(HEALTHY, "healthy", exit_code=1, crash=crash))
    assert "The run ended with KeyError at train.py:3: 'lr'" in text


def test_a_running_training_is_said_to_run():
    assert "still runs" in terminal.render(diagnosis_of(HEALTHY, "healthy", alive=True))


def test_batch_and_epoch_are_named_where_they_differ_from_the_step():
    evidence = PATIENTS["lr-too-high"]
    assert evidence.bad is not None
    moved = replace(evidence, incidents=replace(evidence.incidents, first=replace(evidence.bad, batch=55, epoch=2)))
    assert "step 40, batch 55, epoch 2" in terminal.render(diagnosis_of(moved, "lr-too-high"))


def test_unknown_lists_candidates_and_the_second_run():
    incident = {"note": "incident", "step": 2, "phase": "forward", "alarm": "loss", "unknown": "it was compiled"}
    diagnosis = diagnose_trace(trace(loss="2 2 nan", notes=[incident]))
    text = terminal.render(diagnosis)
    assert diagnosis.verdict == "unknown" and text.startswith("unknown: ")
    assert "--watch-step 2" in text and "it was compiled" in text


def test_a_probe_that_failed_is_told():
    note = {"note": "probe_failed", "probe": "forward", "step": 6, "error": "TypeError()"}
    assert "the forward probe failed at step 6" in terminal.render(diagnose_trace(trace(loss="2 2", notes=[note])))


def test_no_escape_sequence_of_a_trace_reaches_the_terminal():
    incident = {"note": "incident", "step": 1, "phase": "forward", "layer": "\x1b]0;owned\x07a", "op": "\x1b[31mlog",
                "place": {"file": "\x1b[2Jx.py", "line": 1, "text": "\x1b[5m"}}  # fmt: skip
    made = run(loss="2 nan", notes=[incident, {"note": "unseen", "text": "\x9b31mred"}])
    text = terminal.render(diagnose_trace(made.trace()), full=True)
    assert "\x1b" not in text and "\x9b" not in text and "\x07" not in text


def test_colour_only_where_it_is_wanted():
    sick = diagnosis_of(PATIENTS["unsafe-op"], "unsafe-op")
    assert "\x1b[" not in terminal.render(sick)
    assert terminal.render(sick, colour=True).startswith("\x1b[1m\x1b[31munsafe-op")
