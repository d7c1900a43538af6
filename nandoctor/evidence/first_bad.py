"""Which non-finite value counts as the first, and where it was born (contract/provenance.md)."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..trace.schema import BAD, DTYPES, RECOMPUTED
from ..trace.trace import Trace
from . import fields
from .data import Data
from .layers import graph_nodes
from .skips import by_design, singular_to_the_end, skips_for_ever, start_of_streak

MASK = "mask"  # how a birth was found: a constant of -inf, in a program with a softmax
PHASES = ("input", "forward", "loss", "backward", "optimizer", "weights")
ELSEWHERE = (
    "this rank's loss and own gradients were finite: what another rank's gradients held came in as they were averaged; "
    "diagnose the folder of all ranks"
)


@dataclass(frozen=True)
class Operand:
    """What the operation was given, or gave. low and high are over the finite elements."""

    role: str
    dtype: str
    low: float
    high: float
    nan: int
    inf: int
    zeros: int
    count: int | None  # elements
    rows: int | None = None  # size of the first dimension

    @property
    def absmax(self) -> float:
        return max(abs(self.low), abs(self.high))

    @property
    def finite(self) -> bool:
        return self.nan == 0 and self.inf == 0


@dataclass(frozen=True)
class Bad:
    """The birth of a non-finite value, as far as it could be traced."""

    step: int
    phase: str
    alarm: str = "loss"
    batch: int | None = None
    micro: int | None = None
    epoch: int | None = None
    mode: str = "train"
    layer: str | None = None
    module: str | None = None
    op: str | None = None
    file: str | None = None
    line: int | None = None
    text: str | None = None
    library_file: str | None = None
    library_line: int | None = None
    tensor: str | None = None
    row: int | None = None
    index: int | None = None
    kind: str | None = None
    dtype: str | None = None
    operands: tuple[Operand, ...] = ()
    parameters_finite: bool | None = None
    writer: str | None = None
    masked_rows: int = 0
    scale: float | None = None
    skipped: bool = False
    unknown: str | None = None
    method: str | None = None
    source: str | None = None

    def given(self) -> tuple[Operand, ...]:
        """What went into the operation, without its result."""
        return tuple(operand for operand in self.operands if operand.role != "result")

    def operand(self, *roles: str) -> Operand | None:
        """The first operand of one of these roles."""
        return next((operand for role in roles for operand in self.operands if operand.role == role), None)


@dataclass(frozen=True)
class Incidents:
    """All births of the trace, sorted by what they mean."""
    first: Bad | None  # the one that counts, in training
    evaluation: Bad | None  # the first one in evaluation
    by_design: int  # overflows that a GradScaler left out, as it should
    count: int
    beside: Bad | None = None  # a number that was computed beside training and model, both of which stayed finite


def without_constants(incidents: Incidents, given: Data | None, trace: Trace) -> Incidents:
    """-inf in a variable of the program, where every batch that was looked at is finite: a mask, or a result."""
    bad = incidents.first
    if bad is None or bad.phase != "input" or bad.tensor is not None or bad.kind != "-inf" or given is None:
        return incidents
    if given.bad_batches or given.model_inputs_bad:
        return incidents
    masks = any(name.startswith(("Softmax", "LogSoftmax", "ScaledDot")) for name in graph_nodes(trace))
    unknown = "a variable of the program holds -inf; what was made of it was not seen"
    kept = replace(bad, phase="forward", method=MASK if masks else "variable", unknown=unknown, row=None, index=None)
    return replace(incidents, first=kept)


def gather(trace: Trace) -> Incidents:
    found = [read(note) for note in trace.notes_of("incident")]
    training = [bad for bad in found if bad.mode != "eval" and bad.alarm != "evaluation"]
    if not training:
        seen = _from_rows(trace)
        training = [seen] if seen is not None else []
    training = [_from_elsewhere(trace, bad) for bad in training]
    counting = [bad for bad in training if not by_design(bad)]
    designed = [bad for bad in training if by_design(bad)]
    if designed and (skips_for_ever(trace) or singular_to_the_end(trace, designed)):
        counting = sorted([*counting, start_of_streak(trace, designed)], key=lambda bad: bad.step)
    evaluation = [bad for bad in found if bad.mode == "eval" or bad.alarm == "evaluation"]
    return Incidents(
        first=counting[0] if counting else None,
        evaluation=next((bad for bad in evaluation if not _beside(bad)), None),
        by_design=len(designed),
        count=len(found),
        beside=next((bad for bad in evaluation if _beside(bad)), None),
    )


def _beside(bad: Bad) -> bool:
    """A number that somebody computed in evaluation and looks at: the mean of no test set, a statistic of two models.
    What the model returned was finite, else that had been the first alarm; nothing is trained with it.
    """
    seen = bad.layer or bad.op or bad.tensor or bad.operands or bad.writer or bad.masked_rows
    return bad.phase == "loss" and bad.method == "module" and bad.unknown is not None and not seen


def _from_elsewhere(trace: Trace, bad: Bad) -> Bad:
    """An averaged gradient that is bad while all that this rank computed by itself is finite names nothing here."""
    own = trace.rows("local_gradient")
    own = own[own["step"] == bad.step]
    if bad.alarm != "gradient" or len(own) == 0 or not np.isfinite(own["value"]).all():
        return bad
    return replace(bad, layer=None, module=None, op=None, file=None, line=None, text=None, library_file=None,
                   library_line=None, operands=(), unknown=ELSEWHERE)  # fmt: skip


def read(note: Mapping[str, Any]) -> Bad:
    """An `incident` note; the fields of recording/incident.py."""
    place = fields.mapping(note, "place")
    phase = fields.words(note, "phase")
    alarm = fields.words(note, "alarm") or "loss"
    operands = tuple(_operand(item) for item in fields.items(note, "operands") if isinstance(item, Mapping))
    if phase not in PHASES:
        phase = {"gradient": "backward", "weight": "optimizer"}.get(alarm, "loss")
    return Bad(
        step=fields.whole(note, "step") or 0,
        phase=phase,
        alarm=alarm,
        batch=fields.whole(note, "batch"),
        micro=fields.whole(note, "micro"),
        epoch=fields.whole(note, "epoch"),
        mode="eval" if fields.words(note, "mode") == "eval" else "train",
        layer=fields.words(note, "layer"),
        module=fields.words(note, "module"),
        op=fields.words(note, "op"),
        file=fields.words(place, "file"),
        line=fields.whole(place, "line"),
        text=fields.words(place, "text"),
        library_file=fields.words(place, "library_file"),
        library_line=fields.whole(place, "library_line"),
        tensor=fields.words(note, "tensor"),
        row=fields.whole(note, "row"),
        index=fields.whole(note, "index"),
        kind=_kind(note, operands),
        dtype=fields.words(note, "dtype"),
        operands=operands,
        parameters_finite=fields.truth(note, "parameters_finite"),
        writer=fields.words(note, "writer"),
        masked_rows=fields.whole(note, "masked_rows") or 0,
        scale=fields.number(note, "scale"),
        skipped=fields.truth(note, "skipped") or False,
        unknown=fields.words(note, "unknown"),
        method=fields.words(note, "method"),
        source=fields.words(note, "source"),
    )


def _kind(note: Mapping[str, Any], operands: tuple[Operand, ...]) -> str | None:
    """What was born: read from the result where it is known, since Inf turns NaN on its way to the alarm."""
    kind = fields.words(note, "kind")
    result = next((operand for operand in operands if operand.role == "result"), None)
    if kind == "nan" and result is not None and result.inf and not result.nan:
        return "inf"
    return kind


def _operand(item: Mapping[str, Any]) -> Operand:
    nan = float("nan")
    low, high = fields.number(item, "low"), fields.number(item, "high")
    count: int | None = 1
    for size in fields.items(item, "shape"):
        count = count * size if count is not None and isinstance(size, int) and abs(size) < 2**40 else None
    return Operand(
        role=fields.words(item, "role") or "",
        dtype=fields.words(item, "dtype") or "",
        low=nan if low is None else low,
        high=nan if high is None else high,
        nan=fields.whole(item, "nan") or 0,
        inf=fields.whole(item, "inf") or 0,
        zeros=fields.whole(item, "zeros") or 0,
        count=count,
        rows=_first_size(item),
    )


def _first_size(item: Mapping[str, Any]) -> int | None:
    sizes = fields.items(item, "shape")
    return sizes[0] if len(sizes) > 1 and isinstance(sizes[0], int) else None


def _from_rows(trace: Trace) -> Bad | None:
    """The best that rows alone can say, for a trace that holds a non-finite value but no incident note."""
    alarms = []
    for kind, phase in (("loss", "loss"), ("parameter_gradient", "backward"), ("weight", "optimizer")):
        rows = trace.rows(kind)
        wrong = (rows["flags"] & BAD) != 0
        if kind == "loss":
            wrong = wrong | ~np.isfinite(rows["value"])
        wrong &= rows["mode"] == 0
        if kind == "parameter_gradient":
            skipped = trace.rows("step")
            wrong &= ~np.isin(rows["step"], skipped["step"][skipped["value"] == 0])
        if wrong.any():
            alarms.append((int(rows["order"][wrong][0]), kind, phase, rows[wrong][0]))
    if not alarms:
        return None
    _, kind, phase, row = min(alarms, key=lambda alarm: alarm[0])
    step, layer, module = int(row["step"]), None, None
    if kind == "loss":
        outputs = trace.rows("activation")
        here = (outputs["step"] == step) & ((outputs["flags"] & BAD) != 0) & (outputs["mode"] == 0)
        here &= (outputs["flags"] & RECOMPUTED) == 0
        if here.any():
            row, phase = outputs[here][0], "forward"
    subject = trace.subjects.get(int(row["subject"]))
    if subject is not None and phase != "loss":
        layer, module = subject.name, subject.module
        if subject.role == "parameter":
            layer = subject.name.rpartition(".")[0]
    dtype = int(row["dtype"])
    return Bad(
        step=step,
        phase=phase,
        alarm={"parameter_gradient": "gradient"}.get(kind, kind),
        batch=int(row["batch"]),
        micro=int(row["micro"]),
        epoch=int(row["epoch"]),
        layer=layer,
        module=module,
        dtype=DTYPES[dtype] if dtype < len(DTYPES) else None,
        method="module",
        unknown="the trace holds the value but not the operation that made it",
    )
