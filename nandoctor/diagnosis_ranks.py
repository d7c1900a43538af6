"""Traces of several ranks -> one Diagnosis: of the rank that was first, with what the others say about it."""

from dataclasses import replace

from nandoctor.causes import across_ranks
from nandoctor.causes.cause import Fact
from nandoctor.diagnosis import Diagnosis, diagnose_trace
from nandoctor.errors import UserError
from nandoctor.evidence import ranks
from nandoctor.trace.ranks import RankTraces


def diagnose_ranks(folder: RankTraces, muted: frozenset[str] = frozenset()) -> Diagnosis:
    """Only the rank to blame is judged in full; the others are read for what they add to it."""
    found = ranks.gather(folder.traces, folder.world)
    diagnosis = _first_that_trained(folder, found, muted)
    told = across_ranks.facts(diagnosis.evidence.ranks or found)
    findings = diagnosis.findings
    if findings:
        first = findings[0]
        verdict = replace(first.verdict, evidence=(*first.verdict.evidence, *_new(told, first.verdict.evidence)))
        findings = (replace(first, verdict=verdict), *findings[1:])
    return replace(
        diagnosis,
        findings=findings,
        run=replace(diagnosis.run, path=folder.path, ranks=found.world),
        across_ranks=tuple(fact.fact for fact in told),
        not_seen=(*folder.unreadable, *diagnosis.not_seen),
    )


def _first_that_trained(folder: RankTraces, found: ranks.Ranks, muted: frozenset[str]) -> Diagnosis:
    """A rank that died before its first step tells nothing: the next one does."""
    first, *others = [found.first, *(rank for rank in folder.traces if rank != found.first)]
    try:
        return diagnose_trace(folder.traces[first], muted, replace(found, first=first))
    except UserError:
        trained = [rank for rank in others if folder.traces[rank].steps]
        if not trained:
            raise
        return diagnose_trace(folder.traces[trained[0]], muted, replace(found, first=trained[0]))


def _new(told: tuple[Fact, ...], known: tuple[Fact, ...]) -> list[Fact]:
    said = {fact.fact for fact in known}
    return [fact for fact in told if fact.fact not in said]
