"""What active mode did to this run: its own notes. Facts of the treatment, not of the illness."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..trace.trace import Trace
from . import fields

EVENTS = ("applied", "withdrawn", "helped", "once", "advised", "aside")


@dataclass(frozen=True)
class Action:
    step: int
    event: str  # of EVENTS
    treatment: str
    cause: str  # "" where nobody had to ask: an update that was not finite
    what: str
    why: str
    undo: str
    count: int  # how often, up to then
    confidence: float | None = None
    patch: Mapping[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """What would make it permanent."""
        return fields.words(self.patch, "kind") or ""


def gather(trace: Trace) -> tuple[Action, ...]:
    return tuple(read(note) for note in trace.notes_of("treatment") if fields.words(note, "event") in EVENTS)


def read(note: Mapping[str, Any]) -> Action:
    return Action(
        step=fields.whole(note, "step") or 0,
        event=fields.words(note, "event") or "",
        treatment=fields.words(note, "treatment") or "",
        cause=fields.words(note, "cause") or "",
        what=fields.words(note, "what") or "",
        why=fields.words(note, "why") or "",
        undo=fields.words(note, "undo") or "",
        count=fields.whole(note, "count") or 1,
        confidence=fields.number(note, "confidence"),
        patch=fields.mapping(note, "patch"),
    )


def in_force(actions: tuple[Action, ...]) -> tuple[Action, ...]:
    """Applied, and not withdrawn later; with what was done once and would have ended the run."""
    found: list[Action] = []
    for action in actions:
        if action.event == "applied" or (action.event == "once" and action.patch and action.count == 1):
            found.append(action)
        elif action.event == "withdrawn":
            for other in reversed(found):
                if other.treatment == action.treatment and other.cause == action.cause:
                    found.remove(other)
                    break
    return tuple(found)


def helped(action: Action, actions: tuple[Action, ...]) -> bool:
    return any(
        other.event == "helped" and other.treatment == action.treatment and other.cause == action.cause
        and other.step >= action.step
        for other in actions
    )  # fmt: skip
