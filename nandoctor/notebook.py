"""`nandoctor.diagnose("run.parquet")`: the Diagnosis, shown as a report by print, by the prompt, by notebooks."""

import os
from dataclasses import fields
from pathlib import Path

from nandoctor import diagnosis
from nandoctor.diagnosis import known_causes
from nandoctor.diagnosis_path import diagnose_path


class Diagnosis(diagnosis.Diagnosis):
    """`verdict`, `findings`, `first_nonfinite`, `run`, ... as in nandoctor/diagnosis.py."""

    def __str__(self) -> str:
        from nandoctor.report import terminal

        return terminal.render(self, full=False, colour=False)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        from nandoctor.report import html

        return html.render(self)


def diagnose(path: str | os.PathLike[str] | None = None, *, mute: tuple[str, ...] = ()) -> Diagnosis:
    """Name the cause of a recorded run's NaN, or what a log can tell of it; by default of the newest trace here.

    `mute` leaves causes out. Raises UserError for what holds no training and cannot be read.
    """
    found = diagnose_path(Path(path) if path is not None else None, known_causes(mute))
    return Diagnosis(**{field.name: getattr(found, field.name) for field in fields(found)})
