"""`python -m real [NAME ...]`: runs the programs recorded, scores the verdicts, writes docs/real-programs.md.

What a run gave is kept in .cache/real; with names only those are run again, and the page is written of all.
"""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from real.cases import CASES, Case

DOCS = Path(__file__).parents[1] / "docs" / "real-programs.md"
KEPT = Path(__file__).parents[1] / ".cache" / "real"
NANDOCTOR = (sys.executable, "-m", "nandoctor")
TIMEOUT = 600
PACKAGES = ("torch", "lightning", "transformers", "accelerate", "pytorch-tabnet", "skorch", "stable-baselines3",
            "pykeen", "pytorch-forecasting", "torch-geometric")  # fmt: skip
HEAD = """# Programs that nobody here wrote

`make real` installs the packages below into an environment of its own, runs training code that they ship, once as it is
and once made sick by its command line, its configuration or its data alone, and scores what `nandoctor record` and
`nandoctor diagnose` say. Where a package has no command, a driver of a few lines in `real/drivers` hands it the data.
Written by `make real`; with {with_}.

This is no blind score. Early runs of these cases gave wrong verdicts; some were the cases' own fault, the others showed
defects of nandoctor that were mended (parameters without a name, biases of zeros accused, a package's own guard, a
policy's gradients compared with those of the value's branch, Trainer's count of items taken for data).

| whose code trains | changed | planted | verdict | steps | first non-finite value | right |
| --- | --- | --- | --- | --- | --- | --- |
"""


@dataclass(frozen=True)
class Outcome:
    case: Case
    exit_code: int
    found: dict[str, Any] | None  # the diagnosis as JSON; None: none was made
    said: str

    @property
    def right(self) -> bool:
        case, found = self.case, self.found
        if found is None or found["verdict"] not in case.causes:
            return False
        first = found["first_nonfinite"] or {}
        if case.causes == ("healthy",):
            return not first and self.exit_code == 0
        return case.phase in (None, first.get("phase")) and case.op in (None, first.get("op"))

    def row(self) -> str:
        found = self.found or {"verdict": "none", "run": {"steps": 0}, "first_nonfinite": None}
        cells = (self.case.code, self.case.changed or "nothing", self.case.causes[0], found["verdict"],
                 found["run"]["steps"], place(found["first_nonfinite"]), "yes" if self.right else "**no**")  # fmt: skip
        return f"| {' | '.join(map(str, cells))} |"


def place(first: dict[str, Any] | None) -> str:
    if first is None:
        return ""
    parts = [f"step {first['step']}", first["phase"]]
    parts += [f"`{first['layer']}`"] if first["layer"] else []
    return ", ".join([*parts, *([first["op"]] if first["op"] else [])])


def run(case: Case) -> Outcome:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if case.data is not None:
            case.data(folder)
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        environment = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1])}
        command = (*NANDOCTOR, "record", "-o", "run.parquet", "--", *case.command)
        options: dict[str, Any] = dict(cwd=folder, env=environment, capture_output=True, text=True, timeout=TIMEOUT)
        done = subprocess.run(command, **options)
        told = subprocess.run((*NANDOCTOR, "diagnose", "--json", "run.parquet"), **options)
        found = json.loads(told.stdout) if told.returncode in (0, 1) else None
        return Outcome(case, done.returncode, found, (told.stderr if found is None else "") + done.stderr[-1500:])


def main(wanted: list[str]) -> int:
    KEPT.mkdir(parents=True, exist_ok=True)
    for case in CASES:
        if not wanted or case.name in wanted:
            outcome = run(case)
            (KEPT / f"{case.name}.json").write_text(json.dumps([outcome.exit_code, outcome.found]))
            print(case.name, outcome.row(), flush=True)
            if not outcome.right:
                print(outcome.said, file=sys.stderr)
    files = [(case, KEPT / f"{case.name}.json") for case in CASES]
    outcomes = [Outcome(case, *json.loads(file.read_text()), "") for case, file in files if file.exists()]
    right = sum(outcome.right for outcome in outcomes)
    print(f"{right} of {len(outcomes)} right")
    if len(outcomes) == len(CASES):
        programs = len({outcome.case.code for outcome in outcomes})
        score = f"\n{right} of {len(outcomes)} verdicts are right, on {programs} programs.\n"
        versions = ", ".join(f"{package} {version(package)}" for package in PACKAGES)
        DOCS.write_text(HEAD.format(with_=versions) + "\n".join(outcome.row() for outcome in outcomes) + "\n" + score)
    return 0 if right == len(outcomes) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
