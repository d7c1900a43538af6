"""The short form of `make faults`: once each, at the same drawn moment in every run of the suite."""

import random
import sys
from pathlib import Path

import pytest

from tests.faults.cases import CASES
from tests.faults.trial import NotHere, Trial

SHORT = (  # the others run in `make faults`; kills of the training and of the parent are in recording/, too
    "sigkill of both", "sigkill while the trace is written", "sigint twice", "sigsegv in the training",
    "an exception in a loader worker", "out of memory in a probe", "disk full while spooling",
    "disk full while the trace is written", "a read only folder",
    "descriptors closed by the program", "two recordings in one folder",
)  # fmt: skip

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="kills by process ids of /proc")


@pytest.mark.parametrize("name", SHORT)
def test_nothing_is_lost(name, tmp_path):
    trial = Trial(Path(tmp_path), random.Random(f"{name} short"))
    try:
        CASES[name][0](trial)
    except NotHere as lack:
        pytest.skip(str(lack))
    finally:
        trial.clean()
