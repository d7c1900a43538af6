"""The summary of `nandoctor show`: what a trace holds, on one or two screens however large it is."""

import signal
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from typing import Any

from nandoctor.report.plain import plain
from nandoctor.trace.open import rows_by_kind
from nandoctor.trace.trace import Trace

Note = Mapping[str, Any]

LISTED = 12  # layers, notes: what is listed beyond that is counted
LABEL = 12  # width of the left column


def summary_text(trace: Trace) -> str:
    counts = rows_by_kind(trace)
    sections = [
        _run(trace),
        _training(trace, counts),
        *(_model(note) for note in _latest(trace.notes_of("model"), "name", "kind")[:LISTED]),
        _optimizers(trace),
        _notes("incidents", (_incident(note) for note in trace.notes_of("incident"))),
        _notes("failed", (_probe(note) for note in trace.notes_of("probe_failed"))),
        _notes("not seen", (plain(note.get("text")) for note in trace.notes_of("unseen"))),
        _rows(counts),
    ]
    return "\n\n".join(section for section in sections if section)


def _run(trace: Trace) -> str:
    header = trace.header
    writer = f"nandoctor {plain(header.get('nandoctor', '?'), 40)}"
    writer += f", format {plain(header.get('version', '?'), 10)}"
    cuda = header.get("cuda")
    versions = [
        f"Python {plain(header.get('python', '?'), 40)}",
        f"torch {plain(header.get('torch', '?'), 40)}" + (f" with CUDA {plain(cuda, 20)}" if cuda else ""),
        plain(header.get("platform", "?"), 80),
        f"{plain(header.get('threads', '?'), 10)} threads",
    ]
    command = header.get("command")
    lines = [
        _line("trace", plain(trace.path)),
        _line(
            "written by",
            writer,
        ),
        _line("command", plain(" ".join(map(str, command)) if isinstance(command, list) else command or "?")),
        _line("started", _when(header.get("started"))),
        _line("with", ", ".join(versions)),
        _line("ended", ended(trace)),
        *(_line("cost", _cost(note)) for note in trace.notes_of("cost")[-1:]),
    ]
    for note in trace.notes_of("exception")[-1:]:
        lines += [_line("exception", f"{plain(note.get('type'), 60)}: {plain(note.get('message'))}")]
    return "\n".join(lines)


def _when(started: object) -> str:
    try:
        moment = datetime.fromtimestamp(float(str(started)), timezone.utc)
    except (ValueError, OverflowError, OSError):
        return "?"
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def ended(trace: Trace) -> str:
    """How the process ended, in words."""
    if trace.alive:
        return "not yet: it still runs, and this is as far as it has come"
    code = trace.end.get("exit_code", trace.end.get("signal"))
    if not isinstance(code, int):
        return "nobody saw the end: the recording was killed together with the training"
    who = " (the command's; the training ran below it)" if trace.end.get("of") == "command" else ""
    if code >= 0:
        return f"exit code {code}{who}"
    try:
        return f"signal {-code}, {signal.Signals(-code).name}{who}"
    except ValueError:
        return f"signal {-code}{who}"


def _cost(note: Note) -> str:
    """nandoctor's own share of the run, and of how many steps everything was recorded."""
    try:
        share = 100 * float(note["seconds"]) / float(note["elapsed"])
        whole, steps = int(note["whole_steps"]), int(note["steps"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError, OverflowError):
        return "?"
    return f"{share:.3g} % of the time in nandoctor; everything recorded at {whole:,} of {steps:,} steps"


def _training(trace: Trace, counts: Mapping[str, int]) -> str:
    steps = trace.rows("step")
    skipped = int((steps["value"] == 0).sum())
    epochs = int(steps["epoch"].max()) + 1 if len(steps) else 0
    parts = [
        f"{len(steps):,} steps" + (f" ({skipped:,} of them skipped)" if skipped else ""),
        f"{counts.get('backward', 0):,} backward calls",
        f"{epochs:,} epochs begun",
    ]
    elapsed = trace.rows("elapsed")["value"]
    lines = [_line("training", ", ".join(parts))]
    if len(elapsed):
        lines.append(_line("time span", f"{elapsed[-1] - elapsed[0]:.1f} s from the first step to the last"))
    layers = {subject.name for subject in trace.subjects.values() if subject.role == "module"}
    lines.append(_line("layers", f"{len(layers):,} measured"))
    losses = trace.rows("loss")["value"]
    if len(losses):
        lines.append(_line("loss", f"{losses[0]:.6g} at first, {losses[-1]:.6g} at last"))
    return "\n".join(lines)


def _model(note: Note) -> str:
    tree = [(str(entry[0]), str(entry[1])) for entry in _lists(note.get("tree"), 2)]
    parameters = [(str(entry[0]), _count(entry[1])) for entry in _lists(note.get("parameters"), 2)]
    owned: dict[str, int] = {}
    for path, count in parameters:
        owner = path.rpartition(".")[0]
        owned[owner] = owned.get(owner, 0) + count
    named = f"{plain(note.get('kind'), 60)} {plain(note.get('name'), 60)}".strip()
    title = f"{named}: {len(tree):,} modules, {sum(count for _, count in parameters):,} parameters"
    shown = _shortened([(path, kind) for path, kind in tree if path])
    width = max((len(plain(path, 60)) for path, _ in shown), default=0)
    lines = [
        f"  {plain(path, 60).ljust(width)}  {plain(kind, 40)}" + (f"  {owned[path]:,}" if path in owned else "")
        for path, kind in shown
    ]
    return "\n".join([_line("model", title), *lines])


def _shortened(entries: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The first and the last layers: where a model is long, its middle repeats."""
    if len(entries) <= LISTED + 1:
        return entries
    half = LISTED // 2
    return [*entries[:half], ("...", f"{len(entries) - 2 * half:,} more"), *entries[-half:]]


def _optimizers(trace: Trace) -> str:
    first: dict[str, Note] = {}
    for note in trace.notes_of("optimizer"):
        first.setdefault(str(note.get("id")), note)
    lines = []
    for note in first.values():
        groups = note.get("groups")
        for group in groups if isinstance(groups, list) else []:
            values = group.items() if isinstance(group, dict) else ()
            settings = [f"{plain(key, 30)} {plain(value, 30)}" for key, value in values if _is_setting(value)]
            name = str(note.get("class")).rpartition(".")[2]
            lines.append(f"{plain(name, 40)}: {', '.join(settings[:LISTED])}")
    return _notes("optimizers", lines)


def _is_setting(value: object) -> bool:
    """A hyperparameter that is set; not the names of the parameters it applies to."""
    if isinstance(value, list):
        return 0 < len(value) < 5 and all(isinstance(number, int | float) for number in value)
    return isinstance(value, int | float | str) and value is not False


def _incident(note: Note) -> str:
    place = note.get("place")
    place = place if isinstance(place, dict) else {}
    where = f" at {plain(place.get('file'), 80)}:{plain(place.get('line'), 10)}" if place.get("file") else ""
    born = [plain(note[key], 60) for key in ("phase", "layer", "op", "kind") if isinstance(note.get(key), str)]
    seen = f"step {plain(note.get('step'), 12)}, seen in the {plain(note.get('alarm'), 20)}"
    return f"{seen}: {' '.join(born)}{where}"


def _probe(note: Note) -> str:
    where = f"the {plain(note.get('probe'), 40)} probe, at step {plain(note.get('step'), 12)}"
    return f"{where} (off from there on): {plain(note.get('error'))}"


def _rows(counts: Mapping[str, int]) -> str:
    held = {kind: count for kind, count in counts.items() if count}
    width = max((len(kind) for kind in held), default=0)
    lines = [f"  {kind.ljust(width)}  {count:>11,}" for kind, count in held.items()]
    return "\n".join([_line("rows", f"{sum(held.values()):,} of {len(held)} kinds"), *lines])


def _notes(label: str, texts: Iterable[str]) -> str:
    found = list(dict.fromkeys(texts))
    lines = found[:LISTED] + ([f"... {len(found) - LISTED:,} more"] if len(found) > LISTED else [])
    return "\n".join(_line(label if place == 0 else "", line) for place, line in enumerate(lines))


def _line(label: str, text: str) -> str:
    return f"{label.ljust(LABEL)}{text}".rstrip()


def _latest(notes: list[Note], *keys: str) -> list[Note]:
    """A model is noted again when more of it has been seen."""
    return list({tuple(str(note.get(key)) for key in keys): note for note in notes}.values())


def _lists(value: object, length: int) -> list[list[Any]]:
    found = value if isinstance(value, list) else []
    return [entry for entry in found if isinstance(entry, list) and len(entry) >= length]


def _count(shape: object) -> int:
    count = 1
    for size in shape if isinstance(shape, list) else [0]:
        count *= size if isinstance(size, int) and 0 <= size < 2**40 else 0
    return count
