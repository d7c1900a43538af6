"""A failure that a log shows and a recording does not."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SAMPLES = Path(__file__).parents[2] / "sample_logs"


def diagnose(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "nandoctor", "diagnose", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.parametrize("turned", [False, True])
def test_a_failure_that_goes_away_when_watched_is_a_suspicion_of_a_race_and_no_verdict(turned):
    pair = [SAMPLES / "text-sick.log", SAMPLES / "healthy.parquet"]
    found = diagnose(*(reversed(pair) if turned else pair), "--json")
    document = json.loads(found.stdout)
    assert found.returncode == 1 and document["verdict"] == "unknown"
    (finding,) = document["findings"]
    assert finding["cause"] == "hardware-fault" and finding["confidence"] < 0.5
    text = diagnose(*pair).stdout
    assert "did not come again while it was recorded" in text and "missing seed" in text


def test_a_failure_that_comes_again_is_diagnosed_from_the_recording():
    found = diagnose(SAMPLES / "text-sick.log", SAMPLES / "lr-too-high.parquet")
    assert found.returncode == 1 and "lr-too-high" in found.stdout and "fails, too" in found.stdout


def test_beside_a_healthy_log_a_healthy_recording_stays_healthy():
    found = diagnose(SAMPLES / "text-healthy.log", SAMPLES / "healthy.parquet", "--full")
    assert found.returncode == 0 and "healthy" in found.stdout


def test_two_logs_are_a_mistake_with_words():
    found = diagnose(SAMPLES / "text-sick.log", SAMPLES / "text-healthy.log")
    assert found.returncode == 2 and "both logs" in found.stderr and "Traceback" not in found.stderr
