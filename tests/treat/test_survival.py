"""A run that would end at a NaN, by its own hand or by torch's, goes on, and learns what its healthy twin does."""

import math
from pathlib import Path

import pytest
import torch

from tests.treat import survivors
from tests.treat.runs import treated

TEXT = Path(survivors.__file__).read_text(encoding="utf-8")
LIVE = (
    "asserted", "left_by_exit", "broken_off", "asked_by_a_function", "gradients_asserted", "anomaly_mode",
    "clip_that_raises", "bce_of_nan", "ratio_in_half", "pure_half", "given_by_keyword",
)  # fmt: skip


def plain(name, sick):
    torch.manual_seed(0)
    try:
        return getattr(survivors, name)(sick)
    except (AssertionError, RuntimeError, SystemExit):
        return math.nan
    finally:
        torch.autograd.set_detect_anomaly(False)


@pytest.mark.parametrize("name", LIVE)
def test_a_run_that_would_end_goes_on_and_recovers(name, tmp_path):
    twin = plain(name, False)
    assert not math.isfinite(plain(name, True)), "it is not sick"

    run = treated(tmp_path, name, program=TEXT)

    assert run.exit_code == 0, run.stderr
    assert run.loss <= 1.2 * twin


@pytest.mark.parametrize("name", ["asserted", "anomaly_mode", "clip_that_raises", "bce_of_nan"])
def test_nothing_is_said_where_nothing_is_wrong(name, tmp_path):
    run = treated(tmp_path, name, program=TEXT, sick=False)

    assert run.exit_code == 0 and not run.actions
    assert run.loss == pytest.approx(plain(name, False), abs=1e-6)


def test_advice_alone_lets_the_script_end_itself(tmp_path):
    assert treated(tmp_path, "asserted", "--policy", "advise", program=TEXT).exit_code == 1
