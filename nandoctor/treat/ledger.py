"""Every action is said in one line on stderr and stands in the trace: step, cause, what, why, and how to undo it."""

import sys
from collections import Counter
from typing import Any

from ..recording.recorder import Recorder

SAID = 10  # times that the same repeated action is printed; then every tenth, hundredth ...
DONE = {"applied": 1.0, "withdrawn": 2.0, "helped": 3.0, "once": 4.0, "advised": 5.0, "aside": 6.0}  # a row's value


class Ledger:
    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.counts: Counter[str] = Counter()

    def write(
        self, event: str, treatment: str, cause: str, what: str, why: str, undo: str = "", **more: Any
    ) -> None:
        """`event` is a key of DONE; "once" is an action that may come again at each step."""
        recorder = self.recorder
        key = f"{event} {treatment} {cause}"
        self.counts[key] += 1
        count = self.counts[key]
        recorder.claim()
        recorder.value("treatment", recorder.subject(treatment, "treatment"), DONE[event])
        if event == "once" and not told(count):
            return
        recorder.note(
            "treatment", step=recorder.step, batch=recorder.batch, event=event, treatment=treatment, cause=cause,
            what=what, why=why, undo=undo, count=count, **more,
        )  # fmt: skip
        times = f" (time {count}; the next ones are counted in the trace)" if event == "once" and count >= SAID else ""
        line = f"nandoctor: step {recorder.step}: {cause or 'safety'}: {what}{times}"
        line += f"; why: {why}" if why else ""
        line += f"; undo: {undo}" if undo else ""
        say(line)


def told(count: int) -> bool:
    """1 to 10, then 20, 30 ... 100, 200 ..."""
    size = 10 ** (len(str(count)) - 1)
    return count <= SAID or count % size == 0


def say(line: str) -> None:
    try:
        if sys.stderr is not None:
            print(" ".join(line.split()), file=sys.stderr, flush=True)
    except (OSError, ValueError):
        pass  # a closed stderr is no reason to disturb the training
