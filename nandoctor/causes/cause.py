"""What a cause is: an explanation, a judgement, remedies. Data only; numpy-free, torch-free."""

from collections.abc import Callable
from dataclasses import dataclass

from ..evidence import Evidence

Number = float | str | None


@dataclass(frozen=True)
class Fact:
    """One piece of evidence with this run's numbers."""

    fact: str
    value: Number = None
    threshold: Number = None
    step: int | None = None
    layer: str | None = None


@dataclass(frozen=True)
class Remedy:
    """One thing to do. `change` holds this run's values ("lr 0.5 -> 0.05"), `source` names the document."""

    title: str
    change: str
    source: str
    treatment: str | None = None  # the active-mode treatment that applies it
    code: str | None = None  # one line in the style of the run
    covers: tuple[str, ...] = ()  # words of the document's rows that this is; tests look for them in docs/sources.md


@dataclass(frozen=True)
class Verdict:
    """Yes, with reasons. confidence is the probability that this is the root cause."""

    confidence: float
    summary: str  # one sentence with this run's own numbers
    evidence: tuple[Fact, ...]
    against: tuple[str, ...] = ()


@dataclass(frozen=True)
class CannotSay:
    """Neither yes nor no: what the trace lacks, in words."""

    missing: str


Answer = Verdict | CannotSay | None  # None: no


@dataclass(frozen=True)
class Cause:
    """One file, one constant: nandoctor/causes/<id with underscores>.py, CAUSE."""

    id: str
    title: str
    explanation: str  # the module's docstring: the page of `nandoctor explain`
    judge: Callable[[Evidence], Answer]
    remedies: Callable[[Evidence], tuple[Remedy, ...]]
