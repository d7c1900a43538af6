"""Size alone is no proof: a verdict read from how large something is waits as long as the training learns."""

from torch.optim import Optimizer

from ..causes.data_outlier import LOUD
from ..causes.optimizer_epsilon import FAR, endless, unaveraged
from ..evidence import Evidence
from .opinion import Opinion
from .vitals import Vitals

TORN = 1.0  # of the weights in one update: nothing is left of them; healthy first updates reach 0.25


def waits(opinion: Opinion, vitals: Vitals) -> bool:
    """Nothing has failed, and what was found may as well be the way of a healthy run."""
    e = opinion.evidence
    if opinion.failed or e.bad is not None or not by_size(opinion.cause, e):
        return False
    if torn(e) and vitals.doubled():
        return False
    return vitals.learning() is not False


def by_size(cause: str, e: Evidence) -> bool:
    """No mistake was seen that nobody means: a loud batch among others, an update beyond what its formula allows."""
    if cause == "data-outlier":
        return e.data is None or (e.data.loudest_ratio or 0) < LOUD
    if cause == "optimizer-epsilon":
        found = e.denominator
        if found is None or endless(found) or unaveraged(found):
            return False
        return found.largest is None or found.bound is None or found.largest <= FAR * found.bound
    return cause == "lr-too-high"


def torn(e: Evidence) -> bool:
    optimizer = e.optimizer
    return optimizer is not None and max(optimizer.update_ratio_peak or 0, optimizer.update_ratio_first or 0) >= TORN


def highest_rate(optimizers: list[Optimizer]) -> float:
    """The largest learning rate of this step; one that is a tensor may live on a GPU, and is not waited for."""
    rates = [group.get("lr") for optimizer in optimizers for group in optimizer.param_groups]
    return max((rate for rate in rates if isinstance(rate, float)), default=0.0)
