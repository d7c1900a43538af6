"""The traces in sample_logs/ are what README.md and the docs send people to: each diagnoses as its name says."""

import subprocess
import sys
from pathlib import Path

import pytest

import nandoctor

SAMPLES = sorted((Path(__file__).parent.parent / "sample_logs").glob("*.parquet"))


def test_there_is_one_for_each_cause_of_the_main_job():
    assert {path.stem for path in SAMPLES} >= {
        "lr-too-high", "exploding-gradients", "fp16-overflow", "bad-input-data", "batchnorm-tiny-batch",
        "masked-softmax",
        "unsafe-op", "bad-initialization", "healthy",
    }  # fmt: skip


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_it_diagnoses_as_its_name_says(path):
    assert nandoctor.diagnose(path).verdict == path.stem


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_its_report_fits_a_screen_and_names_the_verdict_first(path):
    done = subprocess.run([sys.executable, "-m", "nandoctor", "diagnose", str(path)], capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert done.returncode == (path.stem != "healthy")
    assert len(lines) <= 40 and max(map(len, lines)) <= 100
    assert lines[0].startswith(path.stem)
