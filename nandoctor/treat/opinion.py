"""What the judges say at one moment, and the treatments that are being watched."""

from dataclasses import dataclass

from ..evidence import Evidence
from .applied import Applied

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
