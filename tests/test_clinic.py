"""The corpus of clinic/ is sound, and what its harness does changes no verdict."""

import subprocess
import sys
from pathlib import Path

import pytest

from clinic import frozen
from clinic.cases import CLINIC, HALVES, Case, cases
from clinic.disguise import disguised
from clinic.equivalents import EQUIVALENTS
from clinic.figures import auroc, calibration_error, wilson
from nandoctor.causes import CAUSES
from nandoctor.notebook import diagnose

ALL = list(cases())
RECORDED = (  # one or two programs of each cause that stays finite, by the command line as a user would
    "tune/mlp_digits/", "tune/gcn/",
)  # fmt: skip
FINITE = (
    "fp16-underflow", "gradient-accumulation-bug", "optimizer-epsilon", "vanishing-gradients", "dead-relu",
    "loss-oscillation", "loss-plateau", "amp-misuse",
)  # fmt: skip


def test_every_case_fits_its_program_and_compiles():
    for case in ALL:
        compile(case.sick, case.id, "exec")
        compile(case.twin, case.id, "exec")


def test_ids_are_unique_and_causes_are_those_of_the_contract():
    assert len({case.id for case in ALL}) == len(ALL)
    known = {cause.id for cause in CAUSES} | {"healthy"}
    assert {case.cause for case in ALL} <= known
    assert {pair for pairs in EQUIVALENTS for pair in pairs} <= known


def test_a_sick_program_differs_from_its_twin():
    for case in ALL:
        assert case.cause == "healthy" or case.sick != case.twin, case.id


def test_the_halves_share_no_program():
    assert {c.architecture for c in ALL if c.half == HALVES[0]}.isdisjoint(
        c.architecture for c in ALL if c.half == HALVES[1]
    )


def test_the_reported_half_is_the_one_that_was_frozen():
    frozen.check()


def test_the_reported_half_holds_fifteen_programs_of_every_cause():
    reported = [case.cause for case in ALL if case.counts_as == "reported"]
    few = {c.id for c in CAUSES if reported.count(c.id) < 15}
    assert few <= {"hardware-fault"}  # it takes two runs: tests/test_comparison.py and its like


@pytest.mark.parametrize("case", ALL[:: max(1, len(ALL) // 25)], ids=lambda case: case.id)
def test_a_disguised_program_is_the_same_line_by_line(case: Case):
    hidden = disguised(case.sick, 7)
    compile(hidden, "hidden", "exec")
    assert len(hidden.splitlines()) == len(case.sick.splitlines())
    assert "#" not in hidden.replace("'#'", "").replace('"#"', "") or "#" in case.sick
    assert disguised(case.sick, 8) != hidden


def test_a_disguised_program_imports_what_it_imported():
    program = "import torch.utils.data as d\nfrom torch.utils.data import DataLoader\ndata = [1]\nprint(d, data)\n"
    hidden = disguised(program, 1)
    assert "from torch.utils.data import DataLoader" in hidden and "import torch.utils.data as d" in hidden
    assert "data = [1]" in hidden  # a name that stands in an import stays


def test_an_interval_covers_its_share_and_narrows_with_more_cases():
    for right, of in ((0, 10), (10, 10), (9, 10), (97, 100)):
        low, high = wilson(right, of)
        assert 0 <= low <= right / of <= high + 1e-9 <= 1 + 1e-9
    assert wilson(90, 100)[0] > wilson(9, 10)[0]


def test_calibration_is_zero_where_confidence_is_the_share_of_right_ones():
    assert calibration_error([0.75] * 4, [True, True, True, False]) == pytest.approx(0)
    assert calibration_error([0.95] * 4, [False] * 4) == pytest.approx(0.95)
    assert auroc([0.9, 0.8, 0.3], [True, True, False]) == 1.0
    assert auroc([0.5, 0.5], [True, False]) == 0.5
    assert auroc([0.9], [True]) is None


KNOWN_MISTAKES: dict[str, str] = {}  # what the verdict is today, and why
CHOSEN = [case for case in ALL if case.cause in FINITE and case.id.startswith(RECORDED)]


def with_known_mistakes(case: Case) -> object:
    """Strict: a verdict that turns right must leave the list."""
    reason = KNOWN_MISTAKES.get(case.id)
    return pytest.param(case, marks=pytest.mark.xfail(reason=reason, strict=True)) if reason else case


@pytest.mark.parametrize("case", [with_known_mistakes(case) for case in CHOSEN], ids=lambda case: case.id)
def test_a_run_that_stays_finite_is_diagnosed_by_the_command_line(case: Case, tmp_path: Path):
    script = tmp_path / "train.py"
    script.write_text(disguised(case.sick, 1), encoding="utf-8")
    command = [sys.executable, "-m", "nandoctor", "record", "-o", "run.parquet", "--", sys.executable, script.name]
    subprocess.run(command, cwd=tmp_path, capture_output=True, env=None)
    found = diagnose(tmp_path / "run.parquet")
    accepted = {case.cause, *(said for planted, said in EQUIVALENTS if planted == case.cause)}
    assert found.verdict in accepted, [(f.cause, f.confidence, f.summary) for f in found.findings]


def test_the_scores_are_kept():
    assert (CLINIC / "scores.csv").read_text().startswith("date,commit,half,corpus,")
