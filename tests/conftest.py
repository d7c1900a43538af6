"""Every test run is single-threaded: results and timings do not hang on the machine."""

import os
import signal

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"
# a shell makes what it puts into the background deaf to SIGINT, and so all that the tests start and interrupt
signal.signal(signal.SIGINT, signal.default_int_handler)

from hypothesis import Phase, settings  # noqa: E402

# the same examples in every run, and no hunt for an explanation that takes longer than the test
settings.register_profile(
    "suite", derandomize=True, phases=(Phase.explicit, Phase.generate, Phase.shrink), deadline=None
)
settings.load_profile("suite")
