"""What a user points at - a trace, a spool, a folder of ranks, a log, or nothing - to its Diagnosis."""

from pathlib import Path

from nandoctor.diagnosis import Diagnosis, diagnose_trace
from nandoctor.diagnosis_ranks import diagnose_ranks
from nandoctor.trace.open import newest_trace
from nandoctor.trace.ranks import RankTraces, opened


def diagnose_path(path: Path | None, muted: frozenset[str] = frozenset()) -> Diagnosis:
    """None: the newest trace here. Raises UserError for what holds no training and cannot be read."""
    from nandoctor.logs.sniff import is_log

    chosen = newest_trace(Path.cwd()) if path is None else path
    if is_log(chosen):
        from nandoctor.logs.diagnosis import diagnose_log

        return diagnose_log(chosen, muted)
    from nandoctor.logs.beside import with_state

    found = opened(chosen)
    return diagnose_ranks(found, muted) if isinstance(found, RankTraces) else with_state(diagnose_trace(found, muted))
