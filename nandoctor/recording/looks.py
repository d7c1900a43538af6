"""When to look closer: every step at first, then at an interval. What costs a pass of its own is read only then."""

from .recorder import Recorder

FIRST_LOOKS = 20  # steps: the window that dynamics are read in before an onset
LOOK_EVERY = 5  # 20 looks cover the 100 steps that a dead unit must be silent for (E32 asks 50)
WINDOW = 20  # looks after which silence is counted anew


def looking(recorder: Recorder) -> bool:
    """Whether this step is one of them; where few steps are recorded whole, each of those is."""
    governor = recorder.governor
    return governor.whole and (
        governor.thinned or recorder.step < FIRST_LOOKS or recorder.step % LOOK_EVERY == 0
    )
