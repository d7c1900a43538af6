"""Facts, no opinions: what a trace says about one run. None = the trace does not hold it. numpy only."""

from dataclasses import dataclass

from ..trace.trace import Trace
from . import (
    accumulation,
    activations,
    batchnorm,
    counts,
    course,
    crash,
    curriculum,
    data,
    denominator,
    depth,
    dynamics,
    exchanged,
    first_bad,
    fit,
    flips,
    flow,
    gradients,
    layout,
    leap,
    loss,
    made,
    onset,
    optimizer,
    overshoot,
    phases,
    precision,
    scaler,
    spread,
    style,
    trained,
    treated,
    turns,
    underflow,
    units,
    weights,
)
from .accumulation import Accumulation
from .activations import Activations
from .batchnorm import BatchNorm
from .course import Course
from .crash import Crash
from .data import Data
from .denominator import Denominator
from .depth import Depth
from .dynamics import Dynamics
from .exchanged import Crossed, Exchanged
from .first_bad import Bad, Incidents, Operand
from .fit import Fit
from .flips import Flip
from .flow import Flow
from .gradients import Gradients
from .layout import Layout
from .leap import Forgotten, Leap
from .loss import Loss
from .onset import Onset
from .optimizer import Optimizer
from .overshoot import Overshoot
from .precision import Precision
from .ranks import Ranks
from .replicas import Desync
from .scaler import ScalerCalls
from .spread import Spread
from .style import Style
from .trained import Trained
from .treated import Action
from .turns import Turns
from .underflow import Underflow
from .units import DeadLayer, Units
from .weights import Weights

__all__ = [
    "Action",
    "Accumulation",
    "Activations",
    "Bad",
    "BatchNorm",
    "Course",
    "Crash",
    "Data",
    "DeadLayer",
    "Denominator",
    "Depth",
    "Desync",
    "Dynamics",
    "Evidence",
    "Exchanged",
    "Fit",
    "Flip",
    "Flow",
    "Forgotten",
    "Gradients",
    "Incidents",
    "Layout",
    "Leap",
    "Loss",
    "Onset",
    "Operand",
    "Optimizer",
    "Overshoot",
    "Precision",
    "Ranks",
    "ScalerCalls",
    "Spread",
    "Style",
    "Trained",
    "Turns",
    "Underflow",
    "Units",
    "Weights",
    "gather",
    "phases",
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
    course: Course | None = None
    dynamics: Dynamics | None = None
    units: Units | None = None
    depth: Depth | None = None
    denominator: Denominator | None = None
    underflow: Underflow | None = None
    accumulation: Accumulation | None = None
    trained: Trained | None = None
    overshoot: Overshoot | None = None
    flip: Flip | None = None
    flow: Flow | None = None
    fit: Fit | None = None
    best_term: float | None = None  # of several in the loss: error against that of a constant answer
    layout: Layout | None = None
    leap: Leap | None = None
    forgotten: Forgotten | None = None
    turns: Turns | None = None
    spread: Spread | None = None
    exchanged: Exchanged | None = None
    crossed: Crossed | None = None
    widens: bool = False  # batches hold twice as many classes late as early
    spoiled: tuple[str, ...] = ()  # tensors of batches that hold NaN or Inf, by name
    least_count: float | None = None  # of the targets of a Poisson likelihood, where it is below 0
    treated: tuple[Action, ...] = ()  # by active mode
    ranks: Ranks | None = None  # of several processes that trained together: what their traces say side by side

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
    given = data.gather(trace, when, losses)
    epoch = loss.steps_of_epoch(trace)
    return Evidence(
        steps=steps,
        incidents=first_bad.without_constants(incidents, given, trace),
        onset=when,
        precision=precision.gather(trace, when),
        style=style.gather(trace),
        loss=loss.gather(trace, losses, when),
        gradients=gradients.gather(trace, norms, losses, when),
        optimizer=optimizer.gather(trace, when, losses, norms),
        weights=weights.gather(trace, losses),
        activations=activations.gather(trace, when),
        data=given,
        batchnorm=batchnorm.gather(trace),
        scaler=scaler.gather(trace),
        crash=crash.gather(trace),
        course=course.gather(losses, incidents.first.step if incidents.first else None, epoch),
        dynamics=dynamics.gather(trace),
        units=units.gather(trace),
        depth=depth.gather(trace),
        denominator=denominator.gather(trace),
        underflow=underflow.gather(trace),
        accumulation=accumulation.gather(trace, when),
        trained=trained.gather(trace),
        overshoot=overshoot.gather(trace, when),
        flip=flips.gather(trace),
        flow=flow.gather(trace),
        fit=fit.gather(trace, losses),
        best_term=fit.best_term(trace),
        layout=layout.gather(trace),
        leap=leap.gather(trace, losses),
        forgotten=leap.forgotten(losses, norms, optimizer.rates(trace)),
        turns=turns.gather(trace, losses, incidents.first.step if incidents.first else None, epoch),
        spread=spread.gather(trace),
        exchanged=exchanged.gather(trace, losses),
        crossed=exchanged.crossed(trace),
        widens=curriculum.widens(trace),
        spoiled=made.spoiled(trace) if incidents.first is not None else (),
        least_count=counts.gather(trace),
        treated=treated.gather(trace),
    )
