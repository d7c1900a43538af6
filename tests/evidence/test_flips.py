"""A weight that changed once, as one flipped bit would change it."""

import math

import pytest

from nandoctor.evidence import flips
from nandoctor.trace.trace import Trace
from tests.builders import Run, run


def written(change: float, times: int = 1, size: float = 0.1, load: bool = False) -> Trace:
    """A training in which nobody was seen writing to head.weight at step 6."""
    made: Run = run(steps=6, weights={"head.weight": size, "body.weight": 0.1}, shape=(10, 30))
    for _ in range(times):
        if load:
            made.row("checkpoint", "load_state_dict", "call", value=1.0)
        made.row("foreign_write", "head.weight", "parameter", value=change)
        made.row("step", "step", "call", value=1.0)
    return made.trace()


@pytest.mark.parametrize("bits", [16, 32, 64])
def test_one_bit_of_the_exponent_is_recognised(bits: int):
    norm, element = 0.1 * math.sqrt(300 / 3), 0.05
    found = flips.gather(written((element * 2.0**bits) / norm - 1))
    assert found is not None and (found.step, found.parameter, found.bits) == (6, "head.weight", bits)
    assert found.before == pytest.approx(element, rel=0.01) and found.after == pytest.approx(element * 2.0**bits)


def test_a_value_whose_square_overflows_is_the_highest_bit():
    found = flips.gather(written(math.inf))
    assert found is not None and found.bits == 128


def test_a_change_that_no_bit_explains_is_none():
    norm = 0.1 * math.sqrt(300 / 3)
    assert flips.gather(written(1e12 / norm)) is None  # 1e12 / 2^32 is too large for an element, / 2^64 too small
    assert flips.gather(written(0.5)) is None  # too little to tell one element from all
    assert flips.gather(written(math.nan)) is None


def test_code_that_writes_again_or_loads_a_checkpoint_is_no_flipped_bit():
    change = 0.05 * 2.0**64
    assert flips.gather(written(change)) is not None
    assert flips.gather(written(change, times=2)) is None
    assert flips.gather(written(change, load=True)) is None


def test_a_weight_that_was_never_measured_says_nothing():
    made = run(steps=6)
    made.row("foreign_write", "head.weight", "parameter", value=math.inf)
    made.row("step", "step", "call", value=1.0)
    assert flips.gather(made.trace()) is None
