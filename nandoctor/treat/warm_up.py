"""The learning rate rises from nearly nothing over the first steps, as a factor on top of the user's own schedule."""

import gc
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from ..causes import treatments
from .applied import Applied, Case

SHARE = 0.1  # of all steps: stability-guide says 5 to 10 %
UNTOLD = 100  # steps, where neither a scheduler nor the loader tells how many there will be
START = 0.1  # nan-guide's start_factor


def ramp(case: Case) -> Applied | None:
    total = steps_in_all(case)
    length = max(5, int(SHARE * total)) if total else UNTOLD
    begun = case.run.recorder.step

    def factor(_: Optimizer) -> float:
        done = (case.run.recorder.step - begun) / length
        return 1.0 if done >= 1 else START + (1 - START) * max(0.0, done)

    told = f"{SHARE:.0%} of {total} steps" if total else "their number in all is not known"
    return Applied(
        treatments.WARM_UP, f"the learning rate rises from a tenth over {length} steps ({told})",
        "remove --active; to keep it, add a warm-up", {"kind": "warm-up", "steps": length}, back="start", factor=factor,
    )  # fmt: skip


def steps_in_all(case: Case) -> int | None:
    """From a scheduler that knows its end, else from the loader's length and the command line."""
    for optimizer in case.optimizers:
        scheduler: Any = scheduler_of(optimizer)
        for name in ("total_steps", "T_max", "total_iters"):
            value = getattr(scheduler, name, None)
            if isinstance(value, int) and value > 1:
                return value
    return case.evidence.style.total


def scheduler_of(optimizer: Optimizer) -> Any:
    """Schedulers hold their optimizer; nothing leads the other way."""
    for thing in gc.get_referrers(optimizer):
        if isinstance(thing, dict):
            for owner in gc.get_referrers(thing):
                if isinstance(owner, LRScheduler) and owner.optimizer is optimizer:
                    return owner
        elif isinstance(thing, LRScheduler):
            return thing
    return None
