"""nandoctor diagnose --mute ID: a cause that is left out."""

import json
from pathlib import Path

import pytest

from nandoctor.diagnosis import diagnose_trace, known_causes
from nandoctor.errors import UserError
from tests.builders import run, trace
from tests.cli.test_diagnose import INCIDENT, typed

SICK = {"loss": "2 2 nan", "notes": [INCIDENT]}


def test_a_muted_cause_is_not_judged_and_the_report_says_so(tmp_path: Path):
    run(**SICK).file(tmp_path / "run.parquet")  # type: ignore[arg-type]
    assert typed("diagnose", "run.parquet", cwd=tmp_path).stdout.startswith("unsafe-op")
    done = typed("diagnose", "run.parquet", "--mute", "unsafe-op", cwd=tmp_path)
    assert done.returncode == 1 and not done.stdout.startswith("unsafe-op")
    assert "muted, not judged: unsafe-op" in done.stdout


def test_several_are_muted_by_repeating_it(tmp_path: Path):
    run(**SICK).file(tmp_path / "run.parquet")  # type: ignore[arg-type]
    muted = ("--mute", "unsafe-op", "--mute", "lr-too-high")
    found = json.loads(typed("diagnose", "run.parquet", "--json", *muted, cwd=tmp_path).stdout)
    assert not {"unsafe-op", "lr-too-high"} & {one["cause"] for one in found["findings"]}
    assert found["not_seen"][0] == "muted, not judged: lr-too-high, unsafe-op"


def test_the_judge_of_a_muted_cause_is_not_even_called(monkeypatch: pytest.MonkeyPatch):
    from dataclasses import replace

    from nandoctor import diagnosis

    def judge(evidence: object) -> None:
        raise AssertionError("judged")

    causes = tuple(replace(cause, judge=judge) if cause.id == "unsafe-op" else cause for cause in diagnosis.CAUSES)
    monkeypatch.setattr(diagnosis, "CAUSES", causes)
    assert diagnose_trace(trace(**SICK), frozenset({"unsafe-op"})).verdict != "unsafe-op"
    with pytest.raises(AssertionError):
        diagnose_trace(trace(**SICK))


def test_an_unknown_id_is_a_mistake_that_lists_the_known_ones(tmp_path: Path):
    run(loss="2 1").file(tmp_path / "run.parquet")
    done = typed("diagnose", "run.parquet", "--mute", "learning-rate", cwd=tmp_path)
    assert done.returncode == 2 and "learning-rate" in done.stderr and "lr-too-high" in done.stderr
    with pytest.raises(UserError):
        known_causes(["healthy"])
