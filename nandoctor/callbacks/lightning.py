"""`Trainer(callbacks=[nandoctor.LightningCallback("run.parquet")])`: records fit, to its end or its exception.

For lightning and for pytorch_lightning: the class is a Callback of whichever the program has imported, of both if both.
"""

import importlib
import os
import sys
from typing import Any

from nandoctor.blocks import record
from nandoctor.launch.request import DEFAULT_OUTPUT

PACKAGES = ("lightning.pytorch", "pytorch_lightning")


def bases() -> tuple[type, ...]:
    """The Callback classes that a Trainer of this process may ask for."""
    known = [name for name in PACKAGES if name in sys.modules]
    for name in [] if known else PACKAGES:
        try:
            importlib.import_module(f"{name}.callbacks")
        except ImportError:
            continue
        known = [name]
        break
    if not known:
        raise ImportError("neither lightning nor pytorch_lightning is installed", name=PACKAGES[0])
    return tuple(importlib.import_module(f"{name}.callbacks").Callback for name in known)


class Fit:
    """What the hooks do. A Trainer that only evaluates (stage `test`, `predict`) is not recorded."""

    def __init__(self, output: str | os.PathLike[str] = DEFAULT_OUTPUT, **options: Any) -> None:
        super().__init__()
        self.recording = record(output, **options)

    @property
    def path(self) -> str | None:
        """The trace, once fit has ended."""
        return self.recording.path

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        if stage == "fit":
            self.recording.begin()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self.recording.end(exception)

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        self.recording.end()


def __getattr__(name: str) -> Any:
    """The class is made when it is first asked for, also by pickle: importing nandoctor imports no framework."""
    if name != "LightningCallback":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    made = globals()[name] = type(name, (Fit, *bases()), {"__doc__": __doc__, "__module__": __name__})
    return made
