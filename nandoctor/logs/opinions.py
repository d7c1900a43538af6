"""From a course to ranked causes. Several fit most logs; then all of them are findings, and none is the verdict."""

import math

from nandoctor.causes.cause import Fact, Verdict
from nandoctor.causes.wording import num, percent
from nandoctor.logs import alarms, known
from nandoctor.logs.course import LONG, SILENT, WIDE, WON_LITTLE, Course
from nandoctor.logs.lines import counted, last_values, when
from nandoctor.logs.symptoms import BATCHNORM, GRADIENTS, HALF, INIT, INPUT, LR, OP, OUTLIER, PRIORS, symptoms

MOST = 0.7  # of any verdict from numbers alone: the same curve has several causes, and the best tool with all of a
# program's own numbers is right in two of three
OTHER = 1.0  # weight of a cause that is not in PRIORS, exp(0)
FAINTEST = 0.08  # below it a candidate is not worth a line, as for traces
STANDING, GUESSED, SWINGING, SILENT_GRADIENTS = 0.5, 0.6, 0.55, 0.6  # a converged run stands still, too
STEADY_LR = 0.1  # of its peak: a schedule that ended explains why nothing moves

REASONS = {
    LR: "Steps that are too large",
    GRADIENTS: "Gradients that explode on some batches",
    OUTLIER: "Inputs or targets of wild scale",
    INPUT: "NaN or Inf in a batch",
    HALF: "Values beyond 65504, where half precision is used,",
    OP: "An operation outside its domain (log, sqrt, a division, an empty mask)",
    BATCHNORM: "Statistics of a batch of one, often the last of an epoch,",
    INIT: "Weights that are far too large, or not finite, from the start",
}


def judge(c: Course) -> list[tuple[str, Verdict]]:
    """Cause and verdict, the surest first; empty where nothing failed."""
    found = known.verdicts(c)
    named = {cause for cause, _ in found}
    if c.failed and not any(verdict.confidence >= known.WORDS for _, verdict in found):
        found += [(cause, verdict) for cause, verdict in _weighed(c) if cause not in named]
    elif not c.failed and not found:
        found += _without_failure(c)
    return sorted(found, key=lambda pair: -pair[1].confidence)


def headline(c: Course) -> str:
    """What happened, in one sentence."""
    log, bad, validation = c.log, c.train, c.validation
    if c.zeroed and bad is not None:
        what = f"The loss that Trainer wrote was 0{when(log, bad.place)}, in place of NaN, the gradient norm {_norm(c)}"
        return f"{what}; before it {last_values(bad.before)}" if bad.before else what
    if bad is not None:
        before = f"; before it {last_values(bad.before)}" if bad.before else ""
        return f"The training loss was {bad.kind}{when(log, bad.place)}{before}"
    if validation is not None:
        before = f"; before it {last_values(validation.before)}" if validation.before else ""
        return f"The validation loss was {validation.kind}{when(log, validation.place)}{before}"
    if c.norm is not None:
        return f"The gradient norm was {c.norm.kind}{when(log, c.norm.place)} and ever after"
    if c.burst and c.peak is not None and c.peak_at is not None:
        return f"The loss jumped to {c.peak:.4f}{when(log, c.peak_at)}, usually {num(c.usual)}"
    if c.diverged:
        return f"The loss rose from {num(float(c.losses[0]))} to {num(float(c.losses[-1]))}"
    if c.counts.get(alarms.WEIGHT):
        return f"Weights held NaN or Inf, in {counted(c.counts[alarms.WEIGHT], 'line')} of the log"
    return f"{counted(c.skipped, 'batch')} skipped, of {counted(len(c.losses), 'logged loss')}"


def _norm(c: Course) -> str:
    row = c.log.rows[c.train.place] if c.train is not None else None
    return num(row.norm) if row is not None else "nan"


def _weighed(c: Course) -> list[tuple[str, Verdict]]:
    seen = symptoms(c)
    scores = {cause: prior + sum(s.weights.get(cause, 0.0) for s in seen) for cause, prior in PRIORS.items()}
    total = OTHER + sum(map(math.exp, scores.values()))
    found = []
    for cause, score in scores.items():
        confidence = round(min(MOST, math.exp(score) / total), 2)
        speaking = [s for s in seen if s.weights.get(cause, 0.0) > 0]
        if confidence < FAINTEST:
            continue
        facts = tuple(s.fact for s in sorted(speaking, key=lambda s: -s.weights[cause])) or (Fact(headline(c)),)
        against = tuple(s.fact.fact for s in seen if s.weights.get(cause, 0.0) < 0)
        what = headline(c)
        summary = f"{REASONS[cause]} would explain this: {what[:1].lower()}{what[1:]}."
        found.append((cause, Verdict(confidence, summary, facts, against)))
    return found


def _without_failure(c: Course) -> list[tuple[str, Verdict]]:
    """Nothing is numerically wrong: does it get anywhere?"""
    if c.swings is not None:
        text = f"the second half swings by a factor of {num(c.swings)} and won nothing on the first"
        fact = Fact(text, c.swings, WIDE)
        return [("loss-oscillation", Verdict(SWINGING, f"The loss swings: {text}.", (fact,)))]
    if c.stands is None:
        return []
    text = f"over {len(c.losses)} losses {percent(round(max(0.0, c.stands), 4))} of the first one was won"
    facts = [Fact(text, c.stands, WON_LITTLE)]
    confidence = STANDING
    if c.guessing is not None:
        text = f"it stays at {num(c.usual)}: what guessing among {c.guessing} classes gives, ln {c.guessing}"
        facts.append(Fact(text))
        confidence = GUESSED
    against = ("a run that has converged, or continues another, stands still as well",)
    found = [("loss-plateau", Verdict(confidence, f"No progress: {text}.", tuple(facts), against))]
    norms = c.norms
    if len(norms) >= LONG and c.usual_norm is not None and c.usual_norm < SILENT:
        fact = Fact(f"the gradient norm is usually {num(c.usual_norm)}", c.usual_norm, SILENT)
        summary = f"Hardly any gradient arrives: {fact.fact}."
        found.append(("vanishing-gradients", Verdict(SILENT_GRADIENTS, summary, (fact,))))
    return found
