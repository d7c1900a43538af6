"""The order of GradScaler calls, read as an automaton: scale, unscale_ (once), step, update (E6)."""

from dataclasses import dataclass

from ..trace.trace import Trace

READ_CALLS = 20_000  # calls that are looked at: a misuse in the loop shows in its first rounds


@dataclass(frozen=True)
class ScalerCalls:
    count: int
    unscaled_twice: (
        int | None
    )  # step of the first unscale_ after an unscale_ without an update between, same optimizers
    stepped_without_update: int | None  # step of the first scaler.step after as many steps without an update
    updates: int
    steps: int


def gather(trace: Trace) -> ScalerCalls | None:
    rows = trace.rows("scaler")
    if len(rows) == 0:
        return None
    names = {number: subject.name.rpartition(".")[2] for number, subject in trace.subjects.items()}
    calls = [(int(row["step"]), names.get(int(row["subject"]), "")) for row in rows[:READ_CALLS]]
    optimizers = max(1, len({str(note.get("id")) for note in trace.notes_of("optimizer")}))
    twice = missing = None
    unscaled = stepped = 0
    for step, name in calls:
        if name == "update":
            unscaled = stepped = 0
        elif name == "unscale_":
            unscaled += 1
            if unscaled > optimizers and twice is None:
                twice = step
        elif name == "step":
            stepped += 1
            if stepped > optimizers and missing is None:
                missing = step
    found = [name for _, name in calls]
    return ScalerCalls(len(rows), twice, missing, found.count("update"), found.count("step"))
