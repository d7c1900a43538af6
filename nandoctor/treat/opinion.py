"""What the judges say at one moment, and the treatments that are being watched."""

from dataclasses import dataclass

from ..causes import CAUSES
from ..causes.cause import Verdict
from ..causes.failure import failed
from ..evidence import Evidence
from .applied import Applied
from .plans import plan

SURE_ENOUGH = 0.5  # as in diagnosis.py: below it the verdict is unknown

SEEN = 0.9  # a mistake that was seen need not wait behind one that is read from a size
HARM = ("dead-relu", "vanishing-gradients", "loss-plateau")  # what becomes of layers that a wrong size tore

AT_A_PLACE = ("unsafe-op", "masked-softmax", "fp16-overflow")  # causes of which a program may have several


@dataclass
class Trial:
    """A treatment that is being watched."""

    applied: Applied
    cause: str
    key: str  # cause and place
    since: int  # step


@dataclass
class Opinion:
    """What the judges say at one moment."""

    cause: str
    confidence: float
    because: str
    evidence: Evidence
    failed: bool
    harm: bool = False  # what a wrong size does to a network was seen, too

    @property
    def key(self) -> str:
        return key_of(self.cause, self.evidence)


def key_of(cause: str, e: Evidence) -> str:
    """The cause, with the operation and line where it shows as one."""
    bad = e.bad
    if bad is None or bad.op is None or cause not in AT_A_PLACE:
        return cause
    return f"{cause} {bad.op} {bad.file}:{bad.line}"


def ask(e: Evidence, settled: set[str], documents: bool) -> list[Opinion]:
    """The causes that a treatment can help and of which the judges are sure enough, the likeliest first."""
    answers = [(cause.id, cause.judge(e)) for cause in CAUSES if cause.id not in settled]
    harm = any(name in HARM and isinstance(v, Verdict) and v.confidence >= SURE_ENOUGH for name, v in answers)
    able = [
        (answer.confidence, name, answer)
        for name, answer in answers
        if isinstance(answer, Verdict) and answer.confidence >= SURE_ENOUGH and plan(name, documents, e)
    ]
    has_failed = failed(e) if able else False
    return [
        Opinion(name, sure, answer.evidence[0].fact if answer.evidence else answer.summary, e, has_failed, harm)
        for sure, name, answer in sorted(able, key=lambda one: -one[0])
    ]
