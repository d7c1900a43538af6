"""What a treatment is once it is in force: what it does at which moment, and how it is taken back."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor
from torch.optim import Optimizer

from ..evidence import Evidence
from ..recording.run import Run
from .rehearsal import Rehearsal
from .snapshots import Snapshot, Snapshots
from .vitals import Vitals

Back = Literal["", "onset", "start"]  # no rollback; to before the run left its path; to the first weights


@dataclass
class Gradients:
    """What the coming step would use."""

    optimizer: Optimizer
    parameters: list[Tensor]  # that have a gradient
    norms: list[float]
    total: float
    finite: bool
    loss: float | None  # of the last backward

    def tensors(self) -> list[Tensor]:
        return [p.grad for p in self.parameters if p.grad is not None]


@dataclass(frozen=True)
class Case:
    """What a treatment may know when it is chosen."""

    run: Run
    evidence: Evidence
    cause: str
    optimizers: list[Optimizer]
    vitals: Vitals
    snapshots: Snapshots
    tries: int  # treatments of the same name that did not help before this one
    documents: bool  # the figures of the source documents, not those that measure best
    policy: str
    asked: bool = False  # the user named the treatments that may be used
    latest: Gradients | None = None  # the gradients at hand; None where no step is about to be taken


def nothing(*_: Any) -> None:
    return None


@dataclass
class Applied:
    """A treatment in force. Hooks that are None are not called."""

    name: str  # of causes/treatments.py
    what: str
    undo: str  # what the user does to have it back as it was
    patch: dict[str, Any] = field(default_factory=dict)  # what would make it permanent: report/patches reads it
    back: Back = ""
    unharmed: int | None = None  # an earlier step than onset that a rollback has to go back to
    upstream: str = ""  # the cause that goes on being seen, as this mends it after the recording looks
    beneath: str = ""  # the same, as long as the loss stays where it was
    early: Callable[[Optimizer], None] | None = None  # before the gradients are measured
    gradients: Callable[[Gradients], bool | None] | None = None  # True: leave this step out
    factor: Callable[[Optimizer], float] | None = None  # of the learning rate of this step
    rate: Callable[[Optimizer, int], float] | None = None  # the same for one of its parameter groups, by place
    after: Callable[[Optimizer], None] | None = None
    settle: Callable[[Rehearsal], None] | None = None  # once it is in force: choose its figures
    again: Callable[[Rehearsal], None] | None = None  # before each later step
    stop: Callable[[], None] = nothing  # when it is withdrawn


Treat = Callable[[Case], Applied | None]  # None: it cannot be done here


def target(snapshots: Snapshots, applied: Applied, base: int, onset: int) -> Snapshot | None:
    """Where a treatment goes back to. base: the step that its evidence calls 0."""
    if not applied.back:
        return None
    if applied.back == "start":
        return snapshots.start()
    return snapshots.before(base + min(onset - 1, onset if applied.unharmed is None else applied.unharmed))
