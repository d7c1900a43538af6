"""`Trainer(callbacks=[nandoctor.TrainerCallback("run.parquet")])` of Hugging Face: records train.

The Trainer tells its callbacks nothing of an exception: then the trace is finished when the process ends, or when the
next train begins.
"""

import importlib
import os
from typing import Any

from nandoctor.blocks import record
from nandoctor.launch.request import DEFAULT_OUTPUT


class Train:
    """What the hooks do."""

    def __init__(self, output: str | os.PathLike[str] = DEFAULT_OUTPUT, **options: Any) -> None:
        self.recording = record(output, **options)

    @property
    def path(self) -> str | None:
        """The trace, once train has ended."""
        return self.recording.path

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.recording.end()  # of a train that an exception has ended
        self.recording.begin()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.recording.end()


def __getattr__(name: str) -> Any:
    """The class is made when it is first asked for, also by pickle: importing nandoctor imports no framework."""
    if name != "TrainerCallback":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    base = importlib.import_module("transformers").TrainerCallback
    made = globals()[name] = type(name, (Train, base), {"__doc__": __doc__, "__module__": __name__})
    return made
