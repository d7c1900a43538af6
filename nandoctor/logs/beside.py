"""A trainer_state.json in the folder of a trace: what Hugging Face's Trainer logged, and what it hid."""

import math
from dataclasses import replace
from pathlib import Path

from nandoctor.diagnosis import Diagnosis
from nandoctor.errors import UserError
from nandoctor.logs import trainer_state
from nandoctor.logs.table import Log

NAME = "trainer_state.json"
MOST = 64  # MB: as many log entries as no training has
SAME_STEPS = 0.5  # of the steps, at least, must be in both: else it is another run's


def with_state(diagnosis: Diagnosis) -> Diagnosis:
    """The diagnosis, with a sentence about the log that lies beside its trace, where that shows a finite loss."""
    bad = diagnosis.first_nonfinite
    if bad is None or not diagnosis.evidence.style.hf_trainer:
        return diagnosis
    path = Path(diagnosis.run.path).parent / NAME
    log = _read(path)
    if log is None:
        return diagnosis
    steps = [row.step for row in log.rows if row.step is not None]
    later = [row.train for row in log.rows if row.train is not None and row.step is not None and row.step > bad.step]
    another = not steps or not SAME_STEPS <= max(steps) / max(diagnosis.run.steps, 1) <= 1 / SAME_STEPS
    if another or not later or not all(map(math.isfinite, later)):
        return diagnosis
    said = (
        f"{NAME} beside this trace logs finite losses after step {bad.step}: logging_nan_inf_filter puts the mean "
        "of the losses before in the place of a NaN"
    )
    return replace(diagnosis, not_seen=(*diagnosis.not_seen, said))


def _read(path: Path) -> Log | None:
    try:
        if not path.is_file() or path.stat().st_size >> 20 > MOST:
            return None
        return trainer_state.read(path.read_text(encoding="utf-8", errors="replace"), str(path))
    except (OSError, UserError):
        return None
