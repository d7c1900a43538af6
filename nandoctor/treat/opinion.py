"""What the judges say at one moment, and the treatments that are being watched."""

from dataclasses import dataclass

from ..causes import CAUSES
from ..causes.cause import Verdict
from ..causes.failure import failed
from ..evidence import Evidence
from .applied import Applied
from .plans import plan

SURE_ENOUGH = 0.5  # as in diagnosis.py: below it the verdict is unknown

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

    @property
    def key(self) -> str:
        return key_of(self.cause, self.evidence)


def key_of(cause: str, e: Evidence) -> str:
    """The cause, with the operation and line where it shows as one."""
    bad = e.bad
    if bad is None or bad.op is None or cause not in AT_A_PLACE:
        return cause
    return f"{cause} {bad.op} {bad.file}:{bad.line}"


def ask(e: Evidence, settled: set[str], documents: bool) -> Opinion | None:
    """The likeliest cause that a treatment can help, if the judges are sure enough of one."""
    answers = [(cause.id, cause.judge(e)) for cause in CAUSES if cause.id not in settled]
    able = [
        (answer.confidence, name, answer)
        for name, answer in answers
        if isinstance(answer, Verdict) and answer.confidence >= SURE_ENOUGH and plan(name, documents, e)
    ]
    if not able:
        return None
    confidence, cause, answer = max(able, key=lambda one: one[0])
    because = answer.evidence[0].fact if answer.evidence else answer.summary
    return Opinion(cause, confidence, because, e, failed(e))
