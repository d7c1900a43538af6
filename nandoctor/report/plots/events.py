"""What happened when: the first bad value, skipped steps, epochs. The marks that every picture shares."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from nandoctor.evidence import Bad, treated
from nandoctor.evidence import first_bad as evidence
from nandoctor.trace.schema import SKIPPED
from nandoctor.trace.trace import Trace

FEW_EPOCHS = 20  # more than this many lines are a fence, not a help


def first_bad(trace: Trace) -> Bad | None:
    """The first bad value as the diagnosis sees it: in training, else in evaluation."""
    found = evidence.gather(trace)
    bad = found.first or found.evaluation
    return replace(bad, step=max(0, bad.step)) if bad is not None else None


def birthplace(bad: Bad) -> str:
    """One line: phase, layer, operation, source line with its text, as far as known."""
    parts = [bad.phase + (" in evaluation" if bad.mode == "eval" else "")]
    if bad.layer is not None:
        parts.append(f"layer {bad.layer or '(root)'}")
    if bad.op:
        parts.append(f"op {bad.op}")
    if bad.tensor and bad.phase == "input":
        parts.append(f"tensor {bad.tensor}")
    return ", ".join([*parts, source_line(bad)] if bad.file else parts) + (f"  {bad.text.strip()}" if bad.text else "")


def source_line(bad: Bad) -> str:
    return "" if not bad.file else bad.file if bad.line is None else f"{bad.file}:{bad.line}"


def optimizer_name(trace: Trace, subject: str) -> str:
    """A subject's name, optimizer or optimizer.group, in words: "Adam 0, group 1"."""
    number, _, group = subject.partition(".")
    notes = trace.notes_of("optimizer")
    name = next((str(note.get("name")) for note in notes if str(note.get("id")) == number), "optimizer")
    return f"{name} {number}" + (f", group {group}" if group else "")


def skipped_steps(trace: Trace) -> NDArray[np.float64]:
    """Steps that a GradScaler left out."""
    rows = trace.rows("step")
    return np.unique(rows["step"][(rows["value"] == 0) | ((rows["flags"] & SKIPPED) != 0)]).astype(np.float64)


def epoch_steps(trace: Trace) -> list[int]:
    """The first step of each epoch after the first; empty when there are many."""
    rows = trace.rows("step")
    begins = rows["step"][1:][np.diff(rows["epoch"]) > 0]
    return [int(step) for step in begins] if len(begins) <= FEW_EPOCHS else []


def treatment_steps(trace: Trace) -> list[int]:
    """Steps at which active mode applied or withdrew a treatment."""
    return [action.step for action in treated.gather(trace) if action.event in ("applied", "withdrawn")]


def module_classes(trace: Trace) -> dict[str, str]:
    """Layer name -> class of the module."""
    return {known.name: str(known.module) for known in trace.subjects.values() if known.module}
