"""How the program is written, as far as a code line of a remedy must fit it."""

from dataclasses import dataclass

from ..trace.trace import Trace
from . import fields


@dataclass(frozen=True)
class Style:
    accelerate: bool
    scaler: bool
    clips: bool  # the run clips gradients already
    schedule: bool  # the learning rate moves
    attention: bool


def gather(trace: Trace) -> Style:
    optimizers = [fields.words(note, "class") or "" for note in trace.notes_of("optimizer")]
    files = [str(fields.words(fields.mapping(n, "place"), "library_file")) for n in trace.notes_of("incident")]
    command = trace.header.get("command")
    said = " ".join(map(str, command)) if isinstance(command, (list, tuple)) else str(command or "")
    rates = trace.rows("learning_rate")["value"]
    return Style(
        accelerate=any(name.startswith("Accelerated") for name in optimizers)
        or "accelerate launch" in said
        or any("/accelerate/" in file for file in files),
        scaler=len(trace.rows("scaler")) > 0,
        clips=len(trace.rows("clip")) > 0,
        schedule=len(rates) > 1 and bool((rates != rates[0]).any()),
        attention=any("ttention" in (subject.module or "") + subject.name for subject in trace.subjects.values()),
    )
