"""Facts, no opinions: what a trace says about one run. None = the trace does not hold it. numpy only."""

from dataclasses import dataclass

from ..trace.trace import Trace
from . import (
    activations,
    batchnorm,
    crash,
    data,
    first_bad,
    gradients,
    loss,
    onset,
    optimizer,
    precision,
    scaler,
    style,
    weights,
)
from .activations import Activations
from .batchnorm import BatchNorm
from .crash import Crash
from .data import Data
from .first_bad import Bad, Incidents, Operand
from .gradients import Gradients
from .loss import Loss
from .onset import Onset
from .optimizer import Optimizer
from .precision import Precision
from .scaler import ScalerCalls
from .style import Style
from .weights import Weights

__all__ = [
    "Activations",
    "Bad",
    "BatchNorm",
    "Crash",
    "Data",
    "Evidence",
    "Gradients",
    "Incidents",
    "Loss",
    "Onset",
    "Operand",
    "Optimizer",
    "Precision",
    "ScalerCalls",
    "Style",
    "Weights",
    "gather",
]


@dataclass(frozen=True)
class Evidence:
    steps: int
    incidents: Incidents
    onset: Onset
    precision: Precision
    style: Style
    loss: Loss | None = None
    gradients: Gradients | None = None
    optimizer: Optimizer | None = None
    weights: Weights | None = None
    activations: Activations | None = None
    data: Data | None = None
    batchnorm: BatchNorm | None = None
    scaler: ScalerCalls | None = None
    crash: Crash | None = None

    @property
    def bad(self) -> Bad | None:
        """The birth that counts: in training, else in evaluation."""
        return self.incidents.first or self.incidents.evaluation


def gather(trace: Trace) -> Evidence:
    """Everything the causes may ask, read once."""
    incidents = first_bad.gather(trace)
    losses, norms = loss.series(trace), gradients.series(trace)
    steps = max(trace.steps, 0)
    last = max([steps - 1, *losses.steps[-1:].tolist(), *norms.steps[-1:].tolist(), 0])
    when = onset.gather(losses, norms, incidents.first.step if incidents.first else None, last)
    return Evidence(
        steps=steps,
        incidents=incidents,
        onset=when,
        precision=precision.gather(trace, when),
        style=style.gather(trace),
        loss=loss.gather(trace, losses, when),
        gradients=gradients.gather(trace, norms, losses, when),
        optimizer=optimizer.gather(trace, when, losses, norms),
        weights=weights.gather(trace),
        activations=activations.gather(trace, when),
        data=data.gather(trace, when),
        batchnorm=batchnorm.gather(trace),
        scaler=scaler.gather(trace),
        crash=crash.gather(trace),
    )
