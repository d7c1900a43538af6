"""A log of a run that failed, and a recording of the same command that did not: it went away as it was watched.

Hooks move operations apart in time. A NaN that needs two of them to meet (a race of kernels or streams, memory that is
overwritten, a fused kernel's bug, a device that errs) may not show while they are watched; a NaN that the model makes
by itself from the same seed does.
"""

from dataclasses import replace
from pathlib import Path

from nandoctor.causes import hardware_fault
from nandoctor.causes.cause import Fact, Verdict
from nandoctor.diagnosis import Diagnosis, Finding, Reading, diagnose_trace
from nandoctor.evidence import Evidence
from nandoctor.logs.course import Course, course_of
from nandoctor.logs.opinions import headline
from nandoctor.logs.sniff import read
from nandoctor.trace.trace import Trace

CANDIDATE = 0.3  # a missing seed explains as much: which of both, only repetition tells
UNSURE = "No race is seen from hooks: this is a suspicion, and a missing seed explains as much."
AGAIN = "What tells more: two recordings of the command, nandoctor diagnose A B; and as many steps as the log has"


def observed(log: Path, trace: Trace, muted: frozenset[str] = frozenset()) -> Diagnosis:
    """The diagnosis of the recording, with what the log says beside it. UserError for a log without a training."""
    course, found = course_of(read(log)), diagnose_trace(trace, muted)
    if not course.failed:
        return replace(found, not_seen=(*found.not_seen, f"{log} shows no failure: nothing to reproduce"))
    if not found.healthy:
        return replace(found, not_seen=(*found.not_seen, f"{log} fails, too: {headline(course)}"))
    if hardware_fault.CAUSE.id in muted:
        return found
    verdict = _vanished(course, log, found)
    cause = hardware_fault.CAUSE
    remedies = cause.remedies(found.evidence)
    finding = Finding(cause.id, cause.title, verdict.confidence, verdict.summary, verdict, remedies)
    said = f"the failure of {log} did not come again while it was recorded."
    reading = Reading(said, UNSURE, AGAIN, "From the log and the recording")
    return replace(found, verdict="unknown", findings=(finding,), reading=reading)


def _vanished(course: Course, log: Path, found: Diagnosis) -> Verdict:
    steps, failed_at = found.run.steps, course.train.step if course.train is not None else None
    facts = [
        Fact(f"{log}: {headline(course)}", step=failed_at),
        Fact(f"recorded, the same command trained {steps} steps and is healthy: it did not reproduce", float(steps)),
        *(Fact(text) for text in suspects(found.evidence)),
    ]
    against = ["a random draw without a seed explains it as well"]
    if failed_at is not None and failed_at >= steps:
        against.append(f"the recording ends at step {steps}, before the {failed_at} of the log: record as many")
    return Verdict(CANDIDATE, "The failure did not come again while it was recorded.", tuple(facts), tuple(against))


def suspects(e: Evidence) -> tuple[str, ...]:
    """What a watched run changes: the times at which things meet (msprobe's guide)."""
    first = ("before the model, suspect memory that two use at once: kernels, streams, worker processes",)
    if e.style.cuda:
        return (
            *first,
            "switch off what overlaps communication with computation (overlap-param-gather, "
            "overlap-grad-reduce), then fused attention; CUDA_LAUNCH_BLOCKING=1 shows whether order matters",
        )
    return (*first, "on a processor: num_workers=0, one thread (OMP_NUM_THREADS=1), memory mapped by two processes")
