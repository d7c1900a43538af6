"""record --probe: what forked copies measure, and that the training never notices them."""

import math
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import nandoctor
from nandoctor.evidence import gather
from nandoctor.launch.environment import environment
from nandoctor.launch.request import Request
from nandoctor.recording.forked import search, walls
from nandoctor.recording.probes.overshoot import critical_factor, rho
from nandoctor.trace.open import open_trace
from tests.launch.commands import NANDOCTOR

PROGRAMS = sorted((Path(__file__).parent / "probed").glob("*.py"))
EPS = 1.2e-7


def record(folder: Path, program: str, *options: str) -> tuple[subprocess.CompletedProcess[str], pd.DataFrame]:
    (folder / "train.py").write_text(program)
    done = subprocess.run(
        [*NANDOCTOR, "record", *options, "--", sys.executable, "train.py"], cwd=folder, capture_output=True, text=True
    )
    rows = nandoctor.read_trace(folder / "run.parquet")
    return done, rows[rows.kind.isin(["rho", "critical_factor"])]


def by_step(rows: pd.DataFrame, kind: str) -> dict[int, float]:
    return dict(zip(rows[rows.kind == kind].step, rows[rows.kind == kind].value.astype(float), strict=True))


def said(folder: Path) -> str:
    trace = open_trace(folder / "run.parquet")
    return " ".join(str(note) for note in (*trace.notes_of("unseen"), *trace.notes_of("probe_failed")))


# --- the training does not notice ----------------------------------------------------------------------------
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_a_probed_training_is_the_plain_one_bit_for_bit(program, tmp_path):
    plain, probed = tmp_path / "plain", tmp_path / "probed"
    for folder in (plain, probed):
        folder.mkdir()
        (folder / "train.py").write_text(program.read_text())
    wanted = subprocess.run([sys.executable, "train.py"], cwd=plain, capture_output=True, text=True)
    assert wanted.returncode == 0, wanted.stderr

    got, rows = record(probed, program.read_text(), "--probe", "--quiet")

    assert (got.stdout, got.stderr, got.returncode) == (wanted.stdout, wanted.stderr, 0)
    assert {path.name for path in probed.iterdir()} - {"run.parquet"} == {path.name for path in plain.iterdir()}
    assert len(rows) and "probe_failed" not in said(probed)


# --- what it measures ----------------------------------------------------------------------------------------
QUADRATIC = """
import torch
from torch import nn
class Bowl(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.tensor([1.0, -2.0]))
    def forward(self, x):
        return self.w * x
bowl = Bowl()
optimizer = torch.optim.SGD(bowl.parameters(), lr=0.1)
for step in range(30):
    optimizer.param_groups[0]["lr"] = RATES[step % len(RATES)]
    loss = 0.5 * bowl(torch.tensor(2.0)).pow(2).sum()  # curvature 4
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""
RATES = [0.1, 0.01, 0.4, 0.7, 0.2]


def test_on_a_quadratic_both_numbers_are_the_ones_of_the_formula(tmp_path):
    done, rows = record(tmp_path, f"RATES = {RATES}" + QUADRATIC, "--probe")
    assert done.returncode == 0
    kept, factors = by_step(rows, "rho"), by_step(rows, "critical_factor")
    assert set(range(10)) <= set(kept) == set(factors)
    for step in kept:
        curvature = 4 * RATES[step % len(RATES)]
        assert kept[step] == pytest.approx(1 - curvature / 2, abs=1e-4)
        assert factors[step] == pytest.approx(min(2 / curvature, 64), rel=1e-3)


def test_steps_that_overshoot_are_probed_more_often_and_the_diagnosis_quotes_them(tmp_path):
    _, rows = record(tmp_path, "RATES = [0.6]" + QUADRATIC, "--probe")
    assert list(by_step(rows, "rho")) == [*range(10), 12, 15, 18, 21, 24, 27]
    found = gather(open_trace(tmp_path / "run.parquet")).overshoot
    assert found is not None and found.rho == pytest.approx(-0.2, abs=1e-3)
    assert found.factor == pytest.approx(5 / 6, rel=1e-3) and found.probed == 16
    first = nandoctor.diagnose(tmp_path / "run.parquet").findings[0]
    assert first.cause == "lr-too-high"
    assert any("probed: steps kept -20 % of the decrease" in fact.fact for fact in first.verdict.evidence)


def test_nothing_is_probed_unless_asked_for():
    outer = {"NANDOCTOR_PROBE": "1"}  # of a recording around this one
    assert "NANDOCTOR_PROBE" not in environment(Request(("x",)), "", "", outer)
    assert environment(Request(("x",), probe=True), "", "", {})["NANDOCTOR_PROBE"] == "1"


CLASSIFIER = """
import torch
from torch import nn
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 3))
optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
for step in range(60):
    optimizer.param_groups[0]["lr"] = 0.05 if step < 40 else 20.0
    x = torch.randn(32, 10)
    loss = nn.functional.cross_entropy(net(x), x[:, :3].argmax(1))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


def test_sound_steps_keep_their_promise_and_steps_too_large_do_not(tmp_path):
    record(tmp_path, CLASSIFIER, "--probe")
    rows = nandoctor.read_trace(tmp_path / "run.parquet")
    kept, factors = by_step(rows, "rho"), by_step(rows, "critical_factor")
    sound = [step for step in kept if step < 40]
    assert len(sound) >= 10 and min(kept[step] for step in sound) > 0.9 and min(factors[step] for step in sound) > 16
    hot = [step for step in kept if step >= 40]
    assert hot and max(kept[step] for step in hot) < 0.6 and max(factors[step] for step in hot) < 4


def test_a_copy_that_cannot_repeat_the_loss_switches_the_probe_off(tmp_path):
    moody = QUADRATIC.replace(".sum()  #", ".sum() * (os.getpid() % 1000 + 1)  #")
    done, rows = record(tmp_path, "import os\nRATES = [1e-6]" + moody, "--probe")
    assert done.returncode == 0 and len(rows) == 0
    assert "overshoot probe was off from step 2 on: 3 forked copies failed" in said(tmp_path)
    assert "instead of" in said(tmp_path)


def test_a_copy_that_dies_costs_the_training_nothing(tmp_path):
    deadly = QUADRATIC.replace(
        "    optimizer.zero_grad()", "    os.getpid() == ME or os.abort()\n    optimizer.zero_grad()"
    )
    done, rows = record(tmp_path, "import os\nME = os.getpid()\nRATES = [0.1]" + deadly, "--probe")
    assert done.returncode == 0 and len(rows) == 0 and "hung or died" in said(tmp_path)


def test_a_process_that_cannot_be_forked_safely_is_left_alone():
    said: list[str | None] = []
    thread = threading.Thread(target=lambda: said.append(walls.unfit()))
    thread.start()
    thread.join()
    assert walls.unfit() is None and said[0] is not None and "not the main one" in said[0]


# --- the search ----------------------------------------------------------------------------------------------
def along(curve: Any, loss: float = 1.0, slope: float = -1.0) -> dict[str, Any]:
    """The search on a curve of one factor."""
    calls: list[float] = []

    def measure(factor: float) -> dict[str, Any]:
        calls.append(factor)
        found = curve(factor)
        return found if isinstance(found, dict) else {"loss": found, "slope": slope, "eps": EPS}

    found = search.search(measure, loss)
    assert found is not None
    return {**found, "calls": calls}


def test_the_search_goes_outwards_until_the_loss_rises():
    found = along(lambda c: 1 - c + c * c / 20)  # back at 1 for c = 20
    assert found["calls"] == [0, 1, 4, 16, 64]
    assert rho(found) == pytest.approx(0.95) and critical_factor(found) == pytest.approx(20)


def test_the_search_goes_inwards_where_the_step_itself_raises_the_loss():
    found = along(lambda c: 1 - c + c * c / 0.05)  # back at 1 for c = 0.05
    assert found["calls"] == [0, 1, 1 / 4, 1 / 16, 1 / 64]
    assert rho(found) == pytest.approx(-19) and critical_factor(found) == pytest.approx(0.05)


def test_a_loss_that_leaves_its_type_and_a_guard_that_turns_away_count_as_a_rise():
    for bad in (math.inf, math.nan, {"why": search.LEFT}):
        found = along(lambda c, bad=bad: 1 - c / 100 if c < 3 else bad)
        assert critical_factor(found) == pytest.approx(2)


def test_the_ends_of_the_search_are_reported_as_they_are():
    assert critical_factor(along(lambda c: 1 - c / 100)) == 64
    assert critical_factor(along(lambda c: 1.0 if c == 0 else 2.0)) == 4.0**-6


def test_nothing_is_said_of_what_rounding_or_momentum_decides():
    tiny = along(lambda c: 1 - 1e-7 * c, slope=-1e-7)
    assert rho(tiny) is None and critical_factor(tiny) == 64
    uphill = along(lambda c: 1 + c, slope=1.0)
    assert rho(uphill) is None and critical_factor(uphill) is None


def test_a_copy_that_hangs_ends_the_search():
    hung = {"why": "a forked copy hung or died"}
    assert along(lambda c: hung if c > 4 else 1 - c)["why"] == hung["why"]
    assert along(lambda c: 1 - c, loss=2.0)["why"] == "a repetition gave a loss of 1 instead of 2"


# --- the walls -----------------------------------------------------------------------------------------------
def in_copy(act: Any) -> int:
    """Run in a forked copy; its wait status."""
    pid = walls.fork()
    if pid == 0:
        try:
            act()
        finally:
            os._exit(3)
    return os.waitpid(pid, 0)[1]


def test_a_copy_that_hangs_is_ended_by_the_kernel():
    def hang() -> None:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        walls.end_in(0.1)
        time.sleep(60)

    assert os.WTERMSIG(in_copy(hang)) == signal.SIGALRM


def test_a_copy_cannot_write_into_open_files_nor_move_their_offset(tmp_path):
    (tmp_path / "read.txt").write_text("first\nsecond\n")
    with open(tmp_path / "out.txt", "wb", buffering=0) as out, open(tmp_path / "read.txt", "rb", buffering=0) as file:

        def write() -> None:
            walls.apart(())
            out.write(b"from the copy")
            assert file.read(6) == b"first\n"
            os._exit(0)

        assert in_copy(write) == 0
        assert file.read(6) == b"first\n" and (tmp_path / "out.txt").read_bytes() == b""


def test_a_copy_leaves_rather_than_write_a_file_or_start_a_process(tmp_path):
    acts = [
        lambda: open(tmp_path / "new.txt", "w"), lambda: os.remove(__file__), lambda: subprocess.run(["true"]),
        lambda: (tmp_path / "folder").mkdir(),
    ]  # fmt: skip
    for act in acts:

        def leaving(act: Any = act) -> None:
            walls.forbid(lambda why: os._exit(7))
            act()

        assert os.waitstatus_to_exitcode(in_copy(leaving)) == 7
    assert list(tmp_path.iterdir()) == []
