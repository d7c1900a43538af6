"""nandoctor diagnose and explain, as they are typed."""

import json
import os
import subprocess
import sys
from pathlib import Path

from nandoctor.causes import CAUSES
from tests.builders import Run, run

CRASH = {"note": "exception", "type": "IndexError", "message": "Target 7 is out of bounds.",
         "frames": [["train.py", 9, "<module>", "loss = f(x)"]]}  # fmt: skip
OTHER_CRASH = {**CRASH, "type": "KeyError", "message": "'lr'"}
INCIDENT = {
    "note": "incident",
    "alarm": "loss",
    "step": 2,
    "phase": "loss",
    "op": "log",
    "kind": "inf",
    "operands": [{"role": "self", "dtype": "float32", "shape": [4], "low": 0.0, "high": 1.0, "zeros": 1}],
}


def typed(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "nandoctor", *arguments], cwd=cwd, capture_output=True, text=True,
        env={**os.environ, **environment},
    )  # fmt: skip


def test_a_sick_run_exits_1_and_names_its_cause(tmp_path: Path):
    run(loss="2 2 nan", notes=[INCIDENT]).file(tmp_path / "run.parquet")
    done = typed("diagnose", "run.parquet", cwd=tmp_path)
    assert done.returncode == 1 and done.stdout.startswith("unsafe-op (confidence ")
    assert "\x1b" not in done.stdout and done.stderr == ""


def test_a_healthy_run_exits_0(tmp_path: Path):
    run(loss="2 1.5 1").file(tmp_path / "run.parquet")
    done = typed("diagnose", "run.parquet", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "healthy: nothing failed in 3 steps.\n")


def test_without_a_name_it_takes_the_newest_trace_here(tmp_path: Path):
    old = run(loss="2 2 nan", notes=[INCIDENT]).file(tmp_path / "old.parquet")
    os.utime(old, (1, 1))
    run(loss="2 1 1").file(tmp_path / "new.parquet")
    assert typed("diagnose", cwd=tmp_path).returncode == 0


def test_json_is_printed_alone(tmp_path: Path):
    run(loss="2 2 nan", notes=[INCIDENT]).file(tmp_path / "run.parquet")
    done = typed("diagnose", "run.parquet", "--json", cwd=tmp_path)
    assert json.loads(done.stdout)["verdict"] == "unsafe-op" and done.returncode == 1


def test_full_is_longer(tmp_path: Path):
    run(loss="2 2 nan", notes=[INCIDENT]).file(tmp_path / "run.parquet")
    short, full = (typed("diagnose", *more, cwd=tmp_path).stdout for more in ([], ["--full"]))
    assert len(full) > len(short)


def test_a_missing_trace_is_told_in_words(tmp_path: Path):
    done = typed("diagnose", "nope.parquet", cwd=tmp_path)
    assert done.returncode == 2 and "NO TRACE THERE" in done.stderr and "Traceback" not in done.stderr


def test_a_trace_without_a_step_exits_2_and_tells_the_exception(tmp_path: Path):
    made = Run()
    made.tensor("activation", "fc", 1.0)
    made.notes.append(OTHER_CRASH)
    made.file(tmp_path / "run.parquet")
    done = typed("diagnose", "run.parquet", cwd=tmp_path)
    assert done.returncode == 2 and "NO TRAINING IN IT" in done.stderr and "Traceback" not in done.stderr
    assert "KeyError" in done.stderr


def test_a_known_crash_is_diagnosed_even_before_the_first_step(tmp_path: Path):
    made = Run()
    made.tensor("activation", "fc", 1.0)
    made.notes.append(CRASH)
    made.file(tmp_path / "run.parquet")
    done = typed("diagnose", "run.parquet", cwd=tmp_path)
    assert done.returncode == 1 and done.stdout.startswith("bad-labels (confidence ")
    assert "train.py:9" in done.stdout


def test_another_crash_of_a_healthy_run_exits_0_and_is_one_line(tmp_path: Path):
    run(loss="2 1 1", notes=[OTHER_CRASH], exit_code=1).file(tmp_path / "run.parquet")
    done = typed("diagnose", "run.parquet", cwd=tmp_path)
    assert done.returncode == 0 and "KeyError" in done.stdout.splitlines()[1] and len(done.stdout.splitlines()) == 2


def test_explain_lists_every_cause(tmp_path: Path):
    listed = typed("explain", cwd=tmp_path).stdout
    for name in [*(cause.id for cause in CAUSES), "healthy", "unknown"]:
        assert f"{name} " in listed


def test_explain_prints_a_page(tmp_path: Path):
    page = typed("explain", "lr-too-high", cwd=tmp_path)
    assert page.returncode == 0 and "How to tell it from its neighbours" in page.stdout


def test_explain_of_something_else_lists_what_it_knows(tmp_path: Path):
    done = typed("explain", "flu", cwd=tmp_path)
    assert done.returncode == 2 and "masked-softmax" in done.stderr and "Traceback" not in done.stderr


def test_the_public_function_diagnoses_a_path(tmp_path: Path):
    import nandoctor

    path = run(loss="2 2 nan", notes=[INCIDENT]).file(tmp_path / "run.parquet")
    assert nandoctor.diagnose(path).verdict == "unsafe-op"
