"""The numbers of a run that the documents' numbers are adapted to."""

import math

from ...evidence import Evidence

ADVISED_NORM = 1.0  # of all documents that clip: "1.0 recommended"
WIDEST_NORM = 5.0  # stability-guide: 1.0-5.0
NOTICED = 1.5  # a usual norm up to here is hardly changed by a clip at 1.0
USUAL_OF_LADDER = 0.75  # nan-root-cause: 0.7-0.8 in normal training, for which its ladder was made
FITS = 5.0  # its ladder begins here: a run whose usual norm is larger would be clipped at every step
ENOUGH = 5  # steps before onset: the norm of the first ones is that of an untrained model
GUIDE_LOW, GUIDE_HIGH = 5e-6, 5e-4  # nan-guide's rates are 5e-6 to 2e-4, for a run at 1e-4; half a decade around it


def rate(e: Evidence) -> float | None:
    """The learning rate at onset, where it is one."""
    lr = e.optimizer.lr if e.optimizer else None
    return lr if lr is not None and math.isfinite(lr) and lr > 0 else None


def of_the_guides_order(lr: float) -> bool:
    return GUIDE_LOW <= lr <= GUIDE_HIGH


def rounded(value: float) -> float:
    """Two digits: nobody sets lr to 0.016666."""
    return float(f"{value:.2g}")


def usual_norm(e: Evidence) -> float | None:
    """Of the gradient, before anything went wrong; None where that was too short to tell."""
    norm = e.gradients.pre_median if e.gradients else None
    first, stop = e.onset.window
    return norm if stop - first >= ENOUGH and norm is not None and math.isfinite(norm) and norm > 0 else None


def max_norm(e: Evidence) -> float:
    """1.0; but a norm that is usually larger would feel that as a lower rate, unless the optimizer is adaptive."""
    norm = usual_norm(e)
    if norm is None or norm <= NOTICED or e.optimizer is None or e.optimizer.adaptive:
        return ADVISED_NORM
    return math.ceil(norm) if norm <= WIDEST_NORM else rounded(norm)


def ladder_factor(e: Evidence) -> float:
    """What nan-root-cause's ladder is multiplied by: 1 for gradients of about the size of its own."""
    norm = usual_norm(e)
    return 1.0 if norm is None or norm <= FITS else rounded(norm / USUAL_OF_LADDER)


def accumulated(e: Evidence) -> int:
    """Backward calls for each step; 1 where it is not known."""
    calls = e.accumulation.backwards if e.accumulation else None
    return max(1, round(calls)) if calls is not None and math.isfinite(calls) else 1


def half_weights(e: Evidence) -> str | None:
    """The type of the weights, where it is half precision."""
    if e.denominator is not None and e.denominator.dtype in ("float16", "bfloat16"):
        return e.denominator.dtype
    if e.underflow is not None and e.underflow.half_weights:
        return e.underflow.dtype or "float16"
    return None


def setting(e: Evidence, name: str) -> float | None:
    """A number of the optimizer's first group."""
    return e.optimizer.settings.get(name) if e.optimizer else None
