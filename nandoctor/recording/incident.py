"""An incident: a non-finite loss, gradient or weight, and the birth of the value as far as it could be traced.

Written as an `incident` note by recording/, read by evidence/first_bad.py. Field meanings: contract/provenance.md.
"""

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class Place:
    """A line of the user's program, and the library line below it where the operation lies in a package."""

    file: str | None = None
    line: int | None = None
    text: str | None = None
    library_file: str | None = None
    library_line: int | None = None


@dataclass
class Operand:
    """What an operation was given, or gave."""

    role: str  # self, other, input, weight, bias, mask, target, result
    dtype: str
    shape: list[int]
    low: float  # over the finite elements; nan when there is none
    high: float
    nan: int = 0
    inf: int = 0
    zeros: int = 0


@dataclass
class Incident:
    """`alarm` is where it was noticed, the rest is where it was born."""

    alarm: str  # loss, gradient, weight, evaluation
    step: int
    batch: int
    micro: int
    epoch: int
    mode: str = "train"
    phase: str | None = None  # input, forward, loss, backward, optimizer, weights
    layer: str | None = None
    module: str | None = None
    op: str | None = None
    place: Place = field(default_factory=Place)
    tensor: str | None = None  # path inside the batch, or the parameter's name
    source: str | None = None  # of bad data: batch (a loader's), input (a model was given it), variable
    row: int | None = None
    index: int | None = None
    kind: str | None = None  # nan, inf, -inf
    dtype: str | None = None  # of the value that was born
    operands: list[Operand] = field(default_factory=list)
    parameters_finite: bool | None = None  # of the module that bore it
    writer: str | None = None  # weights: optimizer, load_state_dict, foreign, initial
    masked_rows: int = 0  # softmax: rows that hold nothing but -inf
    scale: float | None = None  # loss scale in force, None without a GradScaler
    skipped: bool = False  # a GradScaler left the step out, as designed
    consumers: list[str] = field(default_factory=list)  # operations from the birth towards the loss, at most 8
    unknown: str | None = None  # why a field is null, in words
    method: str = "graph"  # graph, module, gradients, weights, batch, expression, watch, compiled

    def as_note(self) -> dict[str, Any]:
        return asdict(self)
