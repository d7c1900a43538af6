"""Adds up clues for and against a cause: log-likelihood ratios, capped, so that no single number decides."""

import math
from dataclasses import dataclass

from .cause import Fact, Verdict

CAP = 4.0  # no clue outweighs all others: thresholds come from small models (docs/evidence)
SUREST = 0.95  # a statistic is never proof; provenance may say 0.97
FAINTEST = 0.08  # below this a candidate is not worth a line


@dataclass(frozen=True)
class Clue:
    weight: float  # natural log of how much likelier this is under the cause than under its neighbours
    fact: Fact


def clue(
    weight: float,
    fact: str,
    value: float | str | None = None,
    threshold: float | None = None,
    step: int | None = None,
    layer: str | None = None,
) -> Clue:
    return Clue(weight, Fact(fact, value, threshold, step, layer))


def weigh(prior: float, clues: list[Clue], summary: str) -> Verdict | None:
    """Yes with the clues that speak for it as evidence and the others as `against`; None if hardly likely."""
    score = prior + sum(max(-2 * CAP, min(CAP, each.weight)) for each in clues)
    confidence = min(SUREST, 1 / (1 + math.exp(-max(-30.0, min(30.0, score)))))
    speaking = sorted((each for each in clues if each.weight > 0), key=lambda each: -each.weight)
    if confidence < FAINTEST or not speaking:
        return None
    return Verdict(
        confidence=round(confidence, 2),
        summary=summary,
        evidence=tuple(each.fact for each in speaking),
        against=tuple(each.fact.fact for each in clues if each.weight < 0),
    )
