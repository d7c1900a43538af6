"""Warm-up over the share of the steps that it says, and a loss scale where float16 has lost its own."""

import re

import pytest

from tests.treat import programs
from tests.treat.runs import PROGRAMS, treated

WARM = ("--ladder", "documents", "--treat", "warm-up")
SCHEDULED = "    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=4 * STEPS)\n"
WARMED = {  # how the program tells its length -> what is said
    "by a scheduler": (SCHEDULED, "over 48 steps (10% of 480 steps)"),
    "by one cycle": (SCHEDULED.replace("CosineAnnealingLR(optimizer, T_max=4 * STEPS)",
                                       "OneCycleLR(optimizer, 8.0, 200, pct_start=0.01)"),
                     "over 20 steps (10% of 200 steps)"),
    "not at all": (SCHEDULED.replace("CosineAnnealingLR(optimizer, T_max=4 * STEPS)", "ConstantLR(optimizer, 1.0, 1)"),
                   "over 100 steps (their number in all is not known)"),
}  # fmt: skip


@pytest.mark.parametrize("name", WARMED)
def test_the_warm_up_knows_how_long_it_is(name, tmp_path):
    schedule, said = WARMED[name]
    text = PROGRAMS.read_text(encoding="utf-8")
    assert SCHEDULED in text

    run = treated(tmp_path, "hot_sgd", *WARM, program=text.replace(SCHEDULED, schedule))

    assert run.events("applied")[0] == "warm-up"
    first = next(line for line in run.said if "rises from a tenth" in line)
    assert said in first
    assert re.search("weights and optimizer state are those of step 0 again", first)


LOST = "scaler = torch.amp.GradScaler(\"cpu\", enabled=not sick)"
SCALES = {  # the scaler of the sick run
    "none": LOST,
    "one that starts at nearly nothing": (
        "scaler = torch.amp.GradScaler(\"cpu\", init_scale=2.0**-12 if sick else 2.0**16, growth_interval=10**6)"),
    "fused, one that starts at nearly nothing": (
        "scaler = torch.amp.GradScaler(\"cpu\", init_scale=2.0**-12 if sick else 2.0**16, growth_interval=10**6)"),
}  # fmt: skip


@pytest.mark.parametrize("name", SCALES)
def test_gradients_that_vanish_in_float16_are_scaled(name, tmp_path):
    text = PROGRAMS.read_text(encoding="utf-8")
    assert text.count(LOST) == 1
    text = text.replace(LOST, SCALES[name])
    if "fused" in name:
        text = text.replace("lr=5e4, momentum=0.9)", "lr=5e4, momentum=0.9, fused=True)")
    twin = programs.run("underflow", False)
    assert programs.run("underflow", True) > 1.2 * twin, "it is not sick"

    well, run = treated(tmp_path, "underflow", sick=False, program=text), treated(tmp_path, "underflow", program=text)

    assert not well.actions
    assert run.events("applied")[0] == "amp-order" and run.actions[0].cause == "fp16-underflow"
    assert run.loss <= 1.2 * twin
