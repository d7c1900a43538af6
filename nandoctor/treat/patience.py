"""Size alone is no proof: a verdict read from how large something is waits as long as the training learns."""

from collections.abc import Iterable

from torch.optim import Optimizer

from ..causes import treatments
from ..causes.data_outlier import LOUD
from ..causes.optimizer_epsilon import FAR, endless, unaveraged
from ..evidence import Evidence
from .opinion import SEEN, Opinion, Trial
from .plans import UNKNOWN
from .vitals import Vitals

TORN = 1.0  # of the weights in one update: nothing is left of them; healthy first updates reach 0.25
SCALED = 1024.0  # a loss scale that lifts gradients out of the range where float16 loses them; the default is 65536
STALE = 20  # steps in which what was computed before an operation was treated may still come by: a rollout, a cache


def waits(opinion: Opinion, vitals: Vitals, scale: float | None = None) -> bool:
    """Nothing has failed, and what was found may as well be the way of a healthy run. scale: of a GradScaler."""
    e = opinion.evidence
    scaled = opinion.cause == "fp16-underflow" and scale is not None and scale >= SCALED
    if opinion.failed or e.bad is not None or not (scaled or by_size(opinion.cause, e)):
        return False
    if torn(e) and vitals.doubled() or opinion.harm and opinion.cause == "data-outlier":
        return False
    return vitals.learning() is not False


def foremost(opinions: list[Opinion], vitals: Vitals, scale: float | None = None) -> Opinion | None:
    """The likeliest; but a mistake that was seen before one that has to wait."""
    for place, opinion in enumerate(opinions):
        if opinion.confidence < SEEN and place:
            break
        if not waits(opinion, vitals, scale):
            return opinion
    return opinions[0] if opinions else None


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


def stale(trials: Iterable[Trial], step: int) -> bool:
    """Whether every operation was mended of late: updates are left out meanwhile, which harms no weight."""
    mended = [trial for trial in trials if trial.key == UNKNOWN and trial.applied.name == treatments.OPERATIONS]
    return any(step - trial.since < STALE for trial in mended)
