"""What `nandoctor show` prints of a folder of ranks: a line for each, and the trace of the one that was first."""

from nandoctor.cli.show_rows import Filter, rows_text
from nandoctor.cli.show_summary import ended, summary_text
from nandoctor.evidence import first_bad, ranks
from nandoctor.report.plain import plain
from nandoctor.trace.ranks import RankTraces
from nandoctor.trace.trace import Trace

HEAD = ("rank", "steps", "last loss", "first bad", "ended")


def ranks_text(folder: RankTraces) -> str:
    table = [HEAD, *(_cells(rank, trace) for rank, trace in folder.traces.items())]
    widths = [max(len(cells[place]) for cells in table) for place in range(len(HEAD))]
    pairs = [zip(cells, widths, strict=True) for cells in table]
    lines = ["  ".join(cell.ljust(width) for cell, width in row).rstrip() for row in pairs]
    absent = [f"nothing was recorded of rank {', '.join(map(str, folder.missing[:20]))}"] if folder.missing else []
    first = ranks.gather(folder.traces, folder.world).first
    head = f"{len(folder.traces)} ranks of {folder.world} in {plain(folder.path)}; below, rank {first}"
    parts = [head, "\n".join([*lines, *map(plain, folder.unreadable), *absent]), summary_text(folder.traces[first])]
    return "\n\n".join(parts)


def ranks_rows_text(folder: RankTraces, wanted: Filter, limit: int) -> str:
    return "\n\n".join(f"rank {rank}\n{rows_text(trace, wanted, limit)}" for rank, trace in folder.traces.items())


def _cells(rank: int, trace: Trace) -> tuple[str, ...]:
    losses = trace.rows("loss")["value"]
    bad = first_bad.gather(trace).first
    born = "" if bad is None else f"step {bad.step}, {bad.phase}"
    notes = trace.notes_of("exception")[-1:]
    end = f"{plain(notes[0].get('type'), 40)}: {plain(notes[0].get('message'), 80)}" if notes else ended(trace)
    return str(rank), str(trace.steps), f"{losses[-1]:.6g}" if len(losses) else "", born, end
