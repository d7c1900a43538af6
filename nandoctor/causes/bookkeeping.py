"""Faults that are seen as such, in the order of the loop's calls or in the first weights: they outrank statistics."""

from ..evidence import Evidence
from . import (
    amp_misuse,
    bad_initialization,
    bad_labels,
    batchnorm_tiny_batch,
    corrupt_weights,
    data_outlier,
    gradient_accumulation_bug,
    optimizer_epsilon,
)
from .cause import Verdict
from .weighing import Clue, clue

SEEN_AS_SUCH = (
    amp_misuse.CAUSE,
    gradient_accumulation_bug.CAUSE,
    optimizer_epsilon.CAUSE,
    corrupt_weights.CAUSE,
    bad_labels.CAUSE,
)
SURE = 0.8
LIKELY = 0.5
CONSEQUENCE = -3.0
OUTRANKED = -8.0  # as much as any two statistics together


def outranked(e: Evidence) -> list[Clue]:
    """One clue against every other cause for each such fault."""
    found = []
    for cause in SEEN_AS_SUCH:
        answer = cause.judge(e)
        if isinstance(answer, Verdict) and answer.confidence >= SURE:
            found.append(clue(OUTRANKED, f"{cause.id} explains it: {answer.evidence[0].fact}"))
    return found


def from_the_start(e: Evidence) -> list[Clue]:
    """A clue against what only follows from weights or statistics that were wrong from the first step on."""
    found = []
    for cause in (data_outlier.CAUSE, bad_initialization.CAUSE, batchnorm_tiny_batch.CAUSE):
        answer = cause.judge(e)
        if isinstance(answer, Verdict) and answer.confidence >= LIKELY:
            zeros = cause is bad_initialization.CAUSE and e.weights is not None and e.weights.zero_stays is not None
            weight = OUTRANKED if zeros else CONSEQUENCE  # zeros that stay zeros are seen as such
            found.append(clue(weight, f"{cause.id} was there from the start: {answer.evidence[0].fact}"))
    return found
