"""A log -> its Diagnosis: the one of traces, with what it was read from and what it cannot say."""

from dataclasses import replace
from pathlib import Path

from nandoctor.diagnosis import SURE_ENOUGH, Diagnosis, Finding, Reading, Run
from nandoctor.evidence import Evidence, gather
from nandoctor.evidence.crash import Crash
from nandoctor.logs.advice import BY_ID, remedies
from nandoctor.logs.course import FEWEST, NORM_HIGH, Course, course_of
from nandoctor.logs.lines import counted
from nandoctor.logs.opinions import MOST, headline, judge
from nandoctor.logs.sniff import read
from nandoctor.logs.stand_in import trace_of
from nandoctor.logs.table import Log

RECORD = "nandoctor record -- COMMAND"


def diagnose_log(path: Path, muted: frozenset[str] = frozenset()) -> Diagnosis:
    """Raises UserError for a file that holds no training."""
    return diagnose_table(read(path), muted)


def diagnose_table(log: Log, muted: frozenset[str] = frozenset()) -> Diagnosis:
    course, trace = course_of(log), trace_of(log)
    evidence = _without_guesses(gather(trace), log)
    judged = [(cause, verdict) for cause, verdict in judge(course) if cause not in muted]
    findings = tuple(
        Finding(name, BY_ID[name].title, verdict.confidence, verdict.summary, verdict, remedies(name, course, evidence))
        for name, verdict in judged
    )
    sure = bool(findings) and findings[0].confidence >= SURE_ENOUGH
    sick = course.failed or bool(findings)
    too_few = not sick and max(len(course.losses), len(course.validations)) < FEWEST
    crash = log.said.crash
    return Diagnosis(
        verdict=findings[0].cause if sure else "unknown" if sick or too_few else "healthy",
        findings=findings,
        first_nonfinite=None,  # a log tells where it showed, not where it was born
        run=Run(
            path=log.path,
            command=None,
            steps=trace.steps,
            exit_code=None,
            torch=None,
            alive=False,
            crash=Crash(crash.type, crash.message, None, None, None, None) if crash else None,
        ),
        evidence=evidence,
        not_seen=_not_seen(course, muted),
        reading=_reading(course, sick, too_few),
    )


def _without_guesses(evidence: Evidence, log: Log) -> Evidence:
    """Remedies adapt a clip to SGD's usual norms; where no optimizer is named, the documents' own numbers stand."""
    if log.said.optimizer is not None or evidence.optimizer is None:
        return evidence
    return replace(evidence, optimizer=replace(evidence.optimizer, adaptive=True))


def _reading(c: Course, sick: bool, too_few: bool) -> Reading:
    held = counted(len(c.losses), "training loss")
    what = f"Read from {c.log.kind} with {held}"
    if too_few:
        said = f"I cannot say: {held} without a failure are too few, I need {FEWEST}."
        sure = f"{what}."
    elif sick:
        said = f"{headline(c)}; several causes fit, and this log does not tell them apart." if c.failed else ""
        sure = f"{what}: a log shows where the loss went, not why. From one I am never surer than {MOST:.0%}, "
        sure += "but where a library names the error itself."
    else:
        said = f"healthy: nothing failed in {held}{_noted(c)}."
        sure = f"{what}: it shows no NaN, no blow-up, no swing, no standstill. What it did not log may still be wrong."
    return Reading(said, sure, f"What tells more: {RECORD}, then nandoctor diagnose")


def _noted(c: Course) -> str:
    """Scary lines that did no harm."""
    if c.skipped:
        return f"; {counted(c.skipped, 'batch')} skipped"
    high = c.peak_norm is not None and c.peak_norm > NORM_HIGH
    return f"; the gradient norm reached {c.peak_norm:.2f}" if high else ""


def _not_seen(c: Course, muted: frozenset[str]) -> tuple[str, ...]:
    said = c.log.said
    missing = [
        name
        for name, there in (
            ("gradient norms", len(c.norms)),
            ("the learning rate", c.lr is not None),
            ("validation losses", len(c.validations)),
            ("the precision", said.precision),
        )
        if not there
    ]
    found = [f"muted, not judged: {', '.join(sorted(muted))}"] if muted else []
    found.append("layers, operations, weights and batches: no log has them")
    return (*found, *([f"not in this log: {', '.join(missing)}"] if missing else []))
