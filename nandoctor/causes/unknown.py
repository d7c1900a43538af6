"""Something failed, and no cause is likelier than not.

What happens
    A value became non-finite or the loss diverged, and the trace does not hold
    enough to say why. The candidates are listed with what speaks for them.

How to tell it from its neighbours
    It is no cause: every cause whose confidence reached 0.5 would be named.

What to do
    Record the step again with every operation watched:
    nandoctor record --watch-step N -- COMMAND. If nothing helps, check what the
    guide checks last: is PyTorch too old, does CUDA match it, is the GPU driver
    sound, is the data set corrupt?

Sources
    nan-guide (if nothing helps)
"""

from ..evidence import Evidence
from .cause import Remedy
from .remedies import nan_guide, nan_root_cause, stability_guide


def remedies(e: Evidence) -> tuple[Remedy, ...]:
    """What the documents do when nobody knows why."""
    ladder = [nan_guide.stable_configuration]
    if e.precision.float16 or e.precision.bfloat16:
        ladder.append(nan_guide.float32)
    if not e.style.clips:
        ladder.append(stability_guide.clip)
    ladder += [nan_guide.skip_bad_loss, nan_guide.scan_data, nan_guide.by_hand, nan_root_cause.watch_norm]
    return tuple(remedy(e) for remedy in ladder)
