"""Trace -> evidence -> causes -> a ranked Diagnosis."""

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from nandoctor.causes import CAUSES
from nandoctor.causes.cause import CannotSay, Cause, Fact, Remedy, Verdict
from nandoctor.causes.failure import failed
from nandoctor.errors import UserError, nothing_to_diagnose, unknown_cause
from nandoctor.evidence import Bad, Crash, Evidence, Ranks, fields, gather, phases
from nandoctor.trace.trace import Trace

SURE_ENOUGH = 0.5  # contract: below it the verdict is `unknown`
ACCUSES = 0.6  # where nothing failed: of 21 blind verdicts below it 5 were right, of 53 at 0.7 to 0.9 all but 3
SHARPER = 1.4  # exponent of the odds: clues are capped and rivals share them, so that blind verdicts said too little
SUREST = 0.97  # of 107 blind verdicts that said 0.9 or more 102 were right
NEVER_SURER = 0.98  # what a judge may say at most; its odds must stay finite
FAINT = 0.2  # a candidate that is four times likelier wrong than right asserts nothing


@dataclass(frozen=True)
class Finding:
    """A cause that may be true, with what speaks for it."""

    cause: str
    title: str
    confidence: float
    summary: str
    verdict: Verdict
    remedies: tuple[Remedy, ...]


@dataclass(frozen=True)
class Run:
    path: str
    command: str | None
    steps: int
    exit_code: int | None  # negative: the signal that ended it
    torch: str | None
    alive: bool
    crash: Crash | None
    rank: int = 0  # of the trace that is told of
    ranks: int = 1  # processes that trained together


@dataclass(frozen=True)
class Reading:
    """What a diagnosis was read from besides a recording, or in place of one (nandoctor/logs), in sentences."""

    said: str  # what happened; the first line where no cause is the verdict
    sure: str  # how sure one can be from it
    more: str  # which command tells more
    heading: str = "From a log alone"


@dataclass(frozen=True)
class Diagnosis:
    """`verdict` is the id of a cause, or healthy, or unknown."""

    verdict: str
    findings: tuple[Finding, ...]  # most probable first; empty when healthy
    first_nonfinite: Bad | None
    run: Run
    evidence: Evidence
    not_seen: tuple[str, ...]
    reading: Reading | None = None  # None: a trace
    across_ranks: tuple[str, ...] = ()  # what the traces of several ranks say together, in sentences

    @property
    def healthy(self) -> bool:
        return self.verdict == "healthy"


def known_causes(names: Iterable[str]) -> frozenset[str]:
    """Ids as typed; UserError for one that is no cause."""
    known = {cause.id for cause in CAUSES}
    for name in names:
        if name not in known:
            raise unknown_cause(name, ", ".join(sorted(known)))
    return frozenset(names)


def diagnose_trace(trace: Trace, muted: frozenset[str] = frozenset(), ranks: Ranks | None = None) -> Diagnosis:
    """`muted` causes are not judged at all. `ranks`: what is known of the other processes of the same training."""
    evidence = replace(gather(trace), ranks=ranks)
    findings, lacking = _judged(evidence, muted)
    clear = failed(evidence) or any(finding.confidence >= ACCUSES for finding in findings)
    later = phases.last(trace) if ranks is None and not clear else None
    if later is not None:
        findings = [_since(later[0], finding) for finding in _judged(gather(later[1]), muted)[0]] or findings
    findings = _with_treated(findings, evidence)
    own = findings[0].confidence if findings else 0.0
    treated = bool(findings) and findings[0].cause in {a.cause for a in evidence.treated if a.event != "aside"}
    findings = _with_rivals(findings)
    run = _run(trace, evidence)
    if not _trained(trace, evidence) and not findings:
        raise _nothing(run)
    sure = bool(findings) and findings[0].confidence >= SURE_ENOUGH and (
        failed(evidence) or own >= ACCUSES or treated
    )
    sick = failed(evidence) or sure or (ranks is not None and ranks.desync is not None)
    return Diagnosis(
        verdict=findings[0].cause if sure else "unknown" if sick else "healthy",
        findings=tuple(findings) if sick else (),
        first_nonfinite=evidence.bad,
        run=run,
        evidence=evidence,
        not_seen=(*_said_muted(muted), *_not_seen(trace, evidence, lacking if sick else [])),
    )


def _judged(evidence: Evidence, muted: frozenset[str]) -> tuple[list[Finding], list[str]]:
    """What the judges say, the surest first, and what they lack to say more."""
    answers = [(cause, cause.judge(evidence)) for cause in CAUSES if cause.id not in muted]
    found = (_finding(cause, answer, evidence) for cause, answer in answers if isinstance(answer, Verdict))
    lacking = [answer.missing for _, answer in answers if isinstance(answer, CannotSay)]
    return sorted(found, key=lambda finding: -finding.confidence), lacking


def _since(start: int, finding: Finding) -> Finding:
    """Of the last training of several: its steps as the whole run counts them."""
    facts = tuple(replace(f, step=None if f.step is None else f.step + start) for f in finding.verdict.evidence)
    summary = f"In the training that began at step {start}: {finding.summary}"
    return replace(finding, summary=summary, verdict=replace(finding.verdict, evidence=facts))


def _finding(cause: Cause, verdict: Verdict, evidence: Evidence) -> Finding:
    summary = verdict.summary
    if verdict.confidence <= FAINT and verdict.evidence:
        summary = f"Hardly likely; for it: {verdict.evidence[0].fact}"
    return Finding(cause.id, cause.title, verdict.confidence, summary, verdict, cause.remedies(evidence))


def _with_rivals(findings: list[Finding]) -> list[Finding]:
    """A judge knows nothing of the others, and one root is looked for: each one's odds, against those of all others and
    of none of them. The order stays.
    """
    odds = [(known / (1 - known)) ** SHARPER for known in (min(f.confidence, NEVER_SURER) for f in findings)]
    told = []
    for place, (finding, own) in enumerate(zip(findings, odds, strict=True)):
        confidence = own / (1 + sum(odds))
        if finding.confidence >= SURE_ENOUGH and place == 0:
            confidence = max(confidence, SURE_ENOUGH)  # no verdict becomes unknown by it
        told.append(replace(finding, confidence=min(confidence, SUREST)))
    return told


def _with_treated(findings: list[Finding], evidence: Evidence) -> list[Finding]:
    """Where active mode has cured a run, the judges of the whole trace may see nothing: what they said then counts."""
    sure = {finding.cause for finding in findings if finding.confidence >= SURE_ENOUGH}
    known = {cause.id: cause for cause in CAUSES}
    added = []
    for action in evidence.treated:
        if action.event not in ("applied", "advised", "once") or action.cause not in known or action.cause in sure:
            continue
        if action.event == "once" and not action.patch:
            continue  # an update left out while another treatment was on trial
        sure.add(action.cause)
        cause = known[action.cause]
        summary = f"Seen at step {action.step}, while it ran: {action.why}."
        confidence = action.confidence if action.confidence is not None else SURE_ENOUGH
        verdict = Verdict(max(SURE_ENOUGH, min(confidence, 1.0)), summary, (Fact(action.why, step=action.step),))
        added.append(Finding(cause.id, cause.title, verdict.confidence, summary, verdict, cause.remedies(evidence)))
    kept = [finding for finding in findings if finding.cause not in {one.cause for one in added}]
    # what was seen first comes first: later candidates are judged on a run that was treated
    return [*added, *kept] if added and not any(f.confidence >= SURE_ENOUGH for f in kept) else [*kept, *added]


def _run(trace: Trace, evidence: Evidence) -> Run:
    command = trace.header.get("command")
    if isinstance(command, (list, tuple)):
        command = shlex.join(str(word) for word in command)
    return Run(
        path=trace.path,
        command=command if isinstance(command, str) else None,
        steps=trace.steps,
        exit_code=fields.whole(trace.end, "exit_code"),
        torch=fields.words(trace.header, "torch"),
        alive=trace.alive,
        crash=evidence.crash,
        rank=evidence.ranks.first if evidence.ranks is not None else fields.whole(trace.header, "rank") or 0,
        ranks=max(fields.whole(trace.header, "world") or 1, 1),
    )


def _said_muted(muted: frozenset[str]) -> tuple[str, ...]:
    return (f"muted, not judged: {', '.join(sorted(muted))}",) if muted else ()


def _trained(trace: Trace, evidence: Evidence) -> bool:
    return trace.steps > 0 or evidence.bad is not None or any(len(trace.rows(k)) for k in ("loss", "backward"))


def _nothing(run: Run) -> UserError:
    said = f"{run.crash.type}: {run.crash.message}" if run.crash else None
    return nothing_to_diagnose(run.path, said)


def _not_seen(trace: Trace, evidence: Evidence, lacking: list[str]) -> list[str]:
    found = [_failed_probe(note) for note in trace.notes_of("probe_failed")]
    found += [fields.words(note, "text") or "" for note in trace.notes_of("unseen")]
    if evidence.bad is not None and evidence.bad.unknown:
        found.append(evidence.bad.unknown)
    if evidence.incidents.beside is not None:
        found.append(_beside(evidence.incidents.beside))
    return list(dict.fromkeys(text for text in (*found, *lacking) if text))


def _beside(bad: Bad) -> str:
    place = f" at {bad.file}:{bad.line}" if bad.file and bad.line else ""
    told = "outputs of the model, loss and weights were finite; a mean over nothing is NaN, for one"
    return f"a number computed in evaluation{place} is {bad.kind or 'not finite'}, which no training step used: {told}"


def _failed_probe(note: Mapping[str, Any]) -> str:
    probe, step = fields.words(note, "probe") or "unnamed", fields.whole(note, "step")
    error = fields.words(note, "error") or "no reason given"
    if probe == "spool":
        return f"the recording could not be written from step {step} on, what came later is unknown: {error}"
    return f"the {probe} probe failed at step {step} and was off afterwards: {error}"
