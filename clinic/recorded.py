"""Records a program under a random name in a random folder, and keeps the trace.

Recorded in a child forked from a process that has torch loaded (forkserver.py): what tests/test_clinic.py records by
the command line gives the same verdicts.

A trace is kept by the program's text and by the code that recorded it: an interrupted measurement goes on where it was.
"""

import hashlib
import json
import os
import random
import shutil
import string
import tempfile
from functools import cache
from pathlib import Path

from clinic.cases import CLINIC, digest
from clinic.disguise import disguised
from clinic.verify import SERVERS

HOUSE = CLINIC.parent / "nandoctor"
KEPT = CLINIC.parent / ".cache" / "clinic"
TIMEOUT = 600
BUDGET = os.environ.get("CLINIC_BUDGET", "")  # 0: without the governor's thinning
RECORDING = ("recording", "launch", "trace")  # rooms of nandoctor that a trace depends on


def trace(program: str) -> Path | None:
    """run.parquet of the disguised program; None if it wrote none."""
    name = digest(program)
    kept = KEPT / f"{_recorder()}{'-' + BUDGET if BUDGET else ''}" / f"{name}.parquet"
    none = kept.with_suffix(".none")
    if none.exists():
        return None
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        found = _record(disguised(program, int(name, 16)), name, kept)
        if not found:
            none.touch()
            return None
    return kept


def _record(program: str, name: str, kept: Path) -> bool:
    from nandoctor.launch.child import Ended
    from nandoctor.launch.spools import close, of_session

    letters = "".join(random.Random(name).choices(string.ascii_lowercase, k=9))
    with tempfile.TemporaryDirectory(prefix=letters) as folder:
        script, out = Path(folder, f"{letters}.py"), Path(folder, "run.parquet")
        script.write_text(program, encoding="utf-8")
        environment = {
            "NANDOCTOR_HOME": str(HOUSE), "NANDOCTOR_OUTPUT": str(out), "NANDOCTOR_SESSION": name,
            "NANDOCTOR_MARKS": folder, "NANDOCTOR_COMMAND": json.dumps(["python", script.name]),
            **({"NANDOCTOR_BUDGET": BUDGET} if BUDGET else {}),
        }  # fmt: skip
        code = SERVERS.run(
            mode="recorded", script=str(script), home=str(HOUSE), environment=environment, timeout=TIMEOUT,
            stdout=str(Path(folder, "stdout")), stderr=str(Path(folder, "stderr")),
        )  # fmt: skip
        for spool, header in of_session(str(out), name):
            close(spool, header, Ended(int(header.get("pid", 0)), code))
        if not out.exists():
            return False
        draft = kept.with_suffix(".draft")
        shutil.copyfile(out, draft)
        draft.replace(kept)
        return True


@cache
def _recorder() -> str:
    """The code that records, as a word."""
    files = sorted(file for room in RECORDING for file in (HOUSE / room).rglob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:10]
