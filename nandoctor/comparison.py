"""Two recordings of one command -> whether the run is reproducible, and what that says about its cause."""

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from nandoctor.causes import hardware_fault
from nandoctor.causes.cause import Verdict
from nandoctor.diagnosis import SURE_ENOUGH, Diagnosis, Finding, diagnose_trace
from nandoctor.errors_compare import other_program, same_recording, too_short
from nandoctor.evidence import divergence
from nandoctor.evidence.divergence import Divergence
from nandoctor.evidence.loss import series
from nandoctor.trace.trace import Trace

LEAST_STEPS = 2  # one step alone cannot agree before another does not
ALIKE = 0.5  # of the names of two models' parameters: below it they are two programs
ENVIRONMENT = ("torch", "cuda", "python", "platform", "device", "threads", "world")  # of the header note
VERSIONS = ("torch", "cuda", "python", "platform", "device")
EXPLAINING = ("command", "torch", "cuda", "world")  # may make a late and large difference; threads or a kernel cannot
LOSSES_AGREE = 0.01  # of the last losses: nobody would call that another result
MEANINGS = {
    "identical": "reproducible: the recordings are equal to the last bit",
    "rounding": "reproducible within rounding: they differ, and never by more than sums taken in another order do",
    "hardware-fault": "not reproducible: the same computation gave another result",
    "other-command": "not reproducible: the commands are not the same",
    "other-versions": "not reproducible: the recordings come from different software or machines",
    "other-threads": "not reproducible: another number of threads adds in another order",
    "unseeded-weights": "not reproducible: the program draws without a seed, and begins with other weights",
    "data-order": "not reproducible: the same data in another order; the program shuffles without a seed",
    "other-data": "not reproducible: the model was given other data",
    "unseeded": "not reproducible: something random is drawn without a seed",
    "nondeterministic-kernels": "not reproducible: rounding differs from run to run, and the difference grows",
    "other-path": "not reproducible: the program did something else in one of the runs",
    "unexplained": "not reproducible: a result differs although all before it is equal; that is no proof yet",
}


@dataclass(frozen=True)
class Losses:
    equal_until: int | None  # last step to which they are equal to the last bit; None: not even at the first
    end_a: float | None
    end_b: float | None
    agree: bool


@dataclass(frozen=True)
class Comparison:
    kind: str  # a key of MEANINGS
    divergence: Divergence
    a: Diagnosis
    b: Diagnosis
    same: tuple[str, ...]  # what the recordings have in common: command, torch, ...
    differs: Mapping[str, tuple[str, str]]
    losses: Losses
    outcome_agrees: bool  # both healthy, or both failed at the same place
    diagnosis: Diagnosis  # hardware-fault where that is proved, else that of A

    @property
    def reproducible(self) -> bool:
        return self.kind in ("identical", "rounding")

    @property
    def healthy(self) -> bool:
        return self.reproducible and self.a.healthy and self.b.healthy


def compare(a: Trace, b: Trace, muted: frozenset[str] = frozenset()) -> Comparison:
    """Raises UserError where the two cannot be compared."""
    _refuse(a, b)
    diagnoses = diagnose_trace(a, muted), diagnose_trace(b, muted)
    found = divergence.compare(a, b)
    if found.first is None and _mark(a) == _mark(b) and None not in _mark(a):
        raise same_recording(a.path, b.path)  # a copy of the file
    same, differs = _surroundings(a, b)
    verdict = None
    if hardware_fault.CAUSE.id not in muted:
        other = tuple(f"{name} is not the same" for name in differs if name in EXPLAINING)
        flip = diagnoses[0].evidence.flip or diagnoses[1].evidence.flip
        verdict = hardware_fault.compared(found, other, flip, _ordered(a, b))
    return Comparison(
        kind=_kind(found, differs, verdict),
        divergence=found,
        a=diagnoses[0],
        b=diagnoses[1],
        same=same,
        differs=differs,
        losses=_losses(a, b, *diagnoses),
        outcome_agrees=_outcome(diagnoses[0]) == _outcome(diagnoses[1]),
        diagnosis=_diagnosis(*diagnoses, verdict),
    )


def _kind(d: Divergence, differs: Mapping[str, tuple[str, str]], verdict: Verdict | None) -> str:
    p = d.first
    if p is None:
        return "identical"
    if d.beyond is None:
        return "rounding"
    if verdict is not None and verdict.confidence >= SURE_ENOUGH:
        return "hardware-fault"
    if "command" in differs:
        return "other-command"
    if any(name in differs for name in VERSIONS):
        return "other-versions"
    if d.other_start:
        return "unseeded-weights"
    if p.phase == "input":
        return "data-order" if d.same_data and p.only_in is None else "other-data"
    if p.only_in is not None or p.kind not in hardware_fault.COMPUTED:
        return "other-path"
    if p.random or (not p.rounding and p.step < hardware_fault.EQUAL_STEPS):
        return "unseeded"
    if p.rounding:
        return "other-threads" if "threads" in differs else "nondeterministic-kernels"
    return "unexplained"


def _diagnosis(a: Diagnosis, b: Diagnosis, verdict: Verdict | None) -> Diagnosis:
    if verdict is None:
        return a
    cause = hardware_fault.CAUSE
    proved = verdict.confidence >= SURE_ENOUGH
    base = b if proved and a.healthy else a  # the run that failed shows what the fault did
    finding = Finding(
        cause.id, cause.title, verdict.confidence, verdict.summary, verdict, cause.remedies(base.evidence)
    )
    others = [other for other in base.findings if other.cause != cause.id]
    if proved:
        rest = tuple(replace(other, confidence=min(other.confidence, 1 - verdict.confidence)) for other in others)
        return replace(base, verdict=cause.id, findings=(finding, *rest))
    if a.healthy:
        return a
    return replace(a, findings=tuple(sorted([*others, finding], key=lambda one: -one.confidence)))


# --- may they be compared, and what surrounds them ----------------------------------------------------------
def _refuse(a: Trace, b: Trace) -> None:
    if os.path.exists(a.path) and os.path.exists(b.path) and os.path.samefile(a.path, b.path):
        raise same_recording(a.path, b.path)
    for trace in (a, b):
        if 0 < trace.steps < LEAST_STEPS:
            raise too_short(trace.path, trace.steps, LEAST_STEPS)
    left, right = (_parameters(trace) for trace in (a, b))
    if left and right and len(left.keys() & right.keys()) < ALIKE * len(left.keys() | right.keys()):
        only = sorted(left.keys() ^ right.keys())[0]
        raise other_program(a.path, b.path, f"parameter {only} is in {'A' if only in left else 'B'} alone")
    wrong = [name for name in left.keys() & right.keys() if left[name] != right[name]]
    if wrong and len(wrong) > ALIKE * len(left):
        name = min(wrong)
        raise other_program(a.path, b.path, f"{name} has the shape {left[name]} in A and {right[name]} in B")


def _mark(trace: Trace) -> tuple[Any, ...]:
    return trace.header.get("pid"), trace.header.get("started"), trace.header.get("rank")


def _parameters(trace: Trace) -> dict[str, tuple[int, ...]]:
    """Shapes of the parameters by name, from their first rows."""
    found: dict[str, tuple[int, ...]] = {}
    rows = trace.rows("weight")
    for row in rows[rows["step"] == 0]:
        subject = trace.subjects.get(int(row["subject"]))
        if subject is not None:
            found.setdefault(subject.name, trace.shapes.get(int(row["shape"]), ()))
    return found


def _surroundings(a: Trace, b: Trace) -> tuple[tuple[str, ...], dict[str, tuple[str, str]]]:
    same, differs = [], {}
    for name in ("command", *ENVIRONMENT):
        left, right = a.header.get(name), b.header.get(name)
        if left is None and right is None:
            continue
        equal = _words(left) == _words(right) if name == "command" else left == right
        if equal:
            same.append(f"{name} {_shown(left)}")
        else:
            differs[name] = (_shown(left), _shown(right))
    return tuple(same), differs


def _ordered(a: Trace, b: Trace) -> bool:
    """On a processor the same number of threads adds in the same order each time."""
    on = [(t.header.get("device"), t.header.get("threads"), t.header.get("world", 1)) for t in (a, b)]
    return on[0] == on[1] and on[0][0] == "cpu" and on[0][1] is not None and on[0][2] in (1, None)


def _words(command: Any) -> tuple[str, ...]:
    """A copy in another folder is the same program."""
    words = command if isinstance(command, (list, tuple)) else (command,)
    return tuple(os.path.basename(str(word)) for word in words)


def _shown(value: Any) -> str:
    return shlex.join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _losses(a: Trace, b: Trace, left: Diagnosis, right: Diagnosis) -> Losses:
    x, y = series(a), series(b)
    until: int | None = None
    for step, one, other in zip(x.steps, x.values, y.values, strict=False):
        if not (one == other or (one != one and other != other)):
            break
        until = int(step)
    ends = [one.evidence.loss.end if one.evidence.loss else None for one in (left, right)]
    return Losses(until, ends[0], ends[1], _agree(*ends))


def _agree(a: float | None, b: float | None) -> bool:
    if a is None or b is None:
        return a is b
    return abs(a - b) <= LOSSES_AGREE * max(abs(a), abs(b)) or (a != a and b != b) or a == b


def _outcome(diagnosis: Diagnosis) -> tuple[Any, ...]:
    bad, run = diagnosis.first_nonfinite, diagnosis.run
    return diagnosis.healthy, run.exit_code, (bad.step, bad.phase, bad.layer) if bad else None
