"""Nothing is wrong, however scary it looks.

What happens
    No non-finite value reached the loss, a gradient that was used, or a weight, and
    the loss did not end far above its start.

How to tell it from its neighbours
    A loss spike that comes back, gradient norms that are large but steady, clipping
    at every step, the first skips of a GradScaler while its scale finds its level,
    -inf in a mask, NaN in a value that nothing uses: all of these are healthy.

What to do
    Nothing. The training may still be slow or bad; that is no numerical fault. If it
    converges slowly, a higher learning rate may be tried: --full tells which.

Sources
    stability-guide (what to watch), nan-guide (higher learning rates), PyTorch's
    documentation of GradScaler
"""

from ..evidence import Evidence
from .cause import Remedy
from .remedies import nan_guide


def remedies(e: Evidence) -> tuple[Remedy, ...]:
    """Nothing is to be repaired; the guide's table goes on to runs that are stable."""
    slow, tried = nan_guide.higher_lr(e), nan_guide.try_higher(e)
    return (slow,) if slow.code == tried.code else (slow, tried)
