"""Runs one script of the corpus twice, plain and recorded, where nothing but the program itself can be recognised.

Comments, docstrings and blank lines are taken out, the file gets a random name in a random folder, and a digest of
all weights and random generators is written at exit by tests/epilogue/sitecustomize.py, in both runs alike.
"""

import ast
import hashlib
import io
import json
import os
import random
import shutil
import string
import subprocess
import sys
import tempfile
import tokenize
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TESTS = Path(__file__).parent
CACHE = TESTS.parent / ".cache" / "plain"
NONE = "none"  # how labels.toml writes JSON's null
TIMEOUT = 300  # a hung run, not a slow one


@dataclass(frozen=True)
class Label:
    """What is planted in a script, from labels.toml. A field that is absent there is not compared."""

    name: str
    path: Path
    cause: str
    accepted: tuple[str, ...] = ()  # also right, by contract/causes.md
    heal: tuple[tuple[str, str], ...] = ()  # text substitutions that make the script healthy
    tenth: tuple[tuple[str, str], ...] = ()  # a tenth of the lr alone: must NOT heal (exploding-gradients)
    step: int | None = None
    phase: tuple[str, ...] = ()  # "none": first_nonfinite is null
    layer: tuple[str, ...] = ()
    op: tuple[str, ...] = ()
    line_text: tuple[str, ...] = ()  # what the line must contain; "none": null is right too
    row: int | None = None
    index: int | None = None
    batch: int | None = None
    tensor: str | None = None
    exit_code: int = 0
    steps: int | None = None  # optimizer steps of the whole run
    epochs: int | None = None
    probes: tuple[str, ...] = ()
    verified: str = ""

    @property
    def sick(self) -> bool:
        return self.cause != "healthy"


def labels(folder: str) -> dict[str, Label]:
    """The labels of tests/<folder>, by script name."""
    with open(TESTS / folder / "labels.toml", "rb") as file:
        raw = tomllib.load(file)
    return {name: _label(name, TESTS / folder / f"{name}.py", entry) for name, entry in raw.items()}


def _label(name: str, path: Path, entry: dict[str, Any]) -> Label:
    known = dict(entry)
    for key in ("heal", "tenth"):
        known[key] = tuple((old, new) for old, new in known.get(key, ()))
    for key in ("accepted", "phase", "layer", "op", "line_text", "probes"):
        value = known.get(key, ())
        known[key] = (value,) if isinstance(value, str) else tuple(value)
    return Label(name=name, path=path, **known)


# --- the program ---------------------------------------------------------------------------------------------


def strip(source: str) -> str:
    """The same program without comments, docstrings and blank lines."""
    lines = source.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column].rstrip()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node, clean=False):
            text = node.body[0]
            for row in range(text.lineno, (text.end_lineno or text.lineno) + 1):
                lines[row - 1] = ""
            if len(node.body) == 1:
                lines[text.lineno - 1] = " " * text.col_offset + "pass"
    return "\n".join(line for line in lines if line.strip()) + "\n"


def healed(label: Label, changes: Sequence[tuple[str, str]]) -> str:
    """The stripped program after its substitutions; each must apply."""
    source = label.path.read_text(encoding="utf-8")
    for old, new in changes:
        if old not in source:
            raise AssertionError(f"{label.name}: {old!r} is not in the script")
        source = source.replace(old, new)
    return strip(source)


def lines_with(program: str, text: str) -> list[int]:
    """The line numbers, from 1, of the stripped program that contain this text (written for the stripped copy)."""
    return [number for number, line in enumerate(program.splitlines(), 1) if text in line]


# --- a run ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    stdout: str
    stderr: str
    exit_code: int
    digest: Mapping[str, Any] | None  # tensors, weights, finite, generators; None if no digest was written
    folder: Path
    file: str
    trace: Path | None = None
    said: str = ""  # nandoctor's own lines at the end of stderr

    def compared(self) -> dict[str, object]:
        """What a recording may not change."""
        return {"stdout": self.stdout, "stderr": self.stderr, "exit_code": self.exit_code,
                "digest": self.digest}  # fmt: skip

    def finite(self) -> bool:
        """Whether nothing non-finite was printed or left in a weight."""
        words = self.stdout.lower().replace(",", " ").replace("]", " ").replace("=", " ").split()
        return bool(self.digest and self.digest["finite"]) and not {"nan", "inf", "-inf", "nan%"} & set(words)


@dataclass
class Workplace:
    """A random folder with the program under a random name; the folder's name is masked in what is collected."""

    program: str
    folder: Path = field(init=False)
    file: str = field(init=False)

    def __post_init__(self) -> None:
        digest = hashlib.sha256(self.program.encode()).hexdigest()
        letters = random.Random(digest).choices(string.ascii_lowercase, k=9)
        self.file = "".join(letters) + ".py"
        self.folder = Path(tempfile.mkdtemp(prefix="t"))
        (self.folder / self.file).write_text(self.program, encoding="utf-8")

    def mask(self, text: str) -> str:
        return text.replace(str(self.folder.resolve()), "<folder>").replace(str(self.folder), "<folder>")

    def execute(self, command: list[str]) -> tuple[subprocess.CompletedProcess[str], dict[str, Any] | None]:
        out = self.folder / "digest.json"
        # `python` is the one that runs the tests: a trace holds the command, and a sample must name no machine's paths
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        environment = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1",
                       "CORPUS_DIGEST": str(out),
                       "PYTHONPATH": str(TESTS / "epilogue"), "PYTHONDONTWRITEBYTECODE": "1"}  # fmt: skip
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True,
                              timeout=TIMEOUT)  # fmt: skip
        return done, json.loads(out.read_text()) if out.exists() else None

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def run_plain(program: str, launcher: Sequence[str] = ("python",)) -> Run:
    """The program alone; kept under .cache/plain by its hash and the versions of what it imports."""
    key = hashlib.sha256((program + " ".join(launcher) + _environment_key()).encode()).hexdigest()[:24]
    kept = CACHE / f"{key}.json"
    place = Workplace(program)
    try:
        if kept.exists():
            found = json.loads(kept.read_text())
        else:
            done, digest = place.execute([*launcher, place.file])
            found = {"stdout": place.mask(done.stdout), "stderr": place.mask(done.stderr),
                     "exit_code": done.returncode, "digest": digest}  # fmt: skip
            CACHE.mkdir(parents=True, exist_ok=True)
            waiting = kept.with_suffix(f".{os.getpid()}")
            waiting.write_text(json.dumps(found))
            waiting.replace(kept)
        return Run(folder=place.folder, file=place.file, **found)
    finally:
        place.remove()


def run_recorded(program: str, keep: Path, launcher: Sequence[str] = ("python",)) -> Run:
    """The program under `nandoctor record`; its trace is moved to `keep`."""
    place = Workplace(program)
    try:
        trace = place.folder / "run.parquet"
        command = [sys.executable, "-m", "nandoctor", "record", "-o", str(trace), "--", *launcher, place.file]
        done, digest = place.execute(command)
        stderr = place.mask(done.stderr)
        own, said = split_said(stderr)
        if trace.exists():
            keep.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(trace, keep)
        return Run(place.mask(done.stdout), own, done.returncode, digest, place.folder, place.file,
                   keep if trace.exists() else None, said)  # fmt: skip
    finally:
        place.remove()


def split_said(stderr: str) -> tuple[str, str]:
    """Stderr of the program, and the lines at its end in which nandoctor speaks."""
    lines = stderr.splitlines(keepends=True)
    cut = len(lines)
    while cut and len(lines) - cut < 4 and "nandoctor" in lines[cut - 1]:
        cut -= 1
    return "".join(lines[:cut]), "".join(lines[cut:])


def _environment_key() -> str:
    from importlib.metadata import PackageNotFoundError, version

    def held(name: str) -> str:
        try:
            return version(name)
        except PackageNotFoundError:
            return "none"

    versions = [held(name) for name in ("torch", "lightning", "pytorch_lightning", "transformers", "accelerate")]
    epilogue = (TESTS / "epilogue" / "sitecustomize.py").read_text()
    return f"{sys.version} {versions} {epilogue}"


def diagnose(trace: Path) -> dict[str, Any]:
    """What `nandoctor diagnose --json` says of a trace, with its exit code under "exit"."""
    command = [sys.executable, "-m", "nandoctor", "diagnose", "--json", str(trace)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, cwd=trace.parent)
    if done.returncode not in (0, 1):
        raise AssertionError(f"diagnose ended with {done.returncode}: {done.stdout[-500:]}{done.stderr[-1500:]}")
    found: dict[str, Any] = json.loads(done.stdout, parse_constant=_refuse)
    found["exit"] = done.returncode
    return found


def _refuse(name: str) -> float:
    raise AssertionError(f"the JSON holds {name}, which is none")


# --- judging -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mark:
    field: str
    right: bool
    wanted: str
    got: str


def marks(label: Label, program: str, found: Mapping[str, Any], file: str) -> list[Mark]:
    """One mark for each field of the label, comparing a diagnosis with it."""
    verdict = str(found["verdict"])
    allowed = (label.cause, *label.accepted)
    result = [Mark("verdict", verdict in allowed, "|".join(allowed), verdict)]
    result.append(Mark("exit", found["exit"] == int(label.sick), str(int(label.sick)), str(found["exit"])))
    code = found["run"]["exit_code"]
    result.append(Mark("run", code == label.exit_code, str(label.exit_code), str(code)))
    if label.steps is not None:
        steps = found["run"]["steps"]
        result.append(Mark("steps", steps == label.steps, str(label.steps), str(steps)))
    first = found["first_nonfinite"]
    if label.phase == (NONE,) or not label.sick:
        return [*result, Mark("phase", first is None, "null", "null" if first is None else _place(first))]
    if not label.phase:
        return result
    first = first or {}
    names = ("step", "phase", "layer", "op", "line", "row", "index", "batch", "tensor")
    got = {name: first.get(name) for name in names}
    result.append(Mark("step", got["step"] == label.step, str(label.step), str(got["step"])))
    result.append(Mark("phase", got["phase"] in label.phase, "|".join(label.phase), str(got["phase"])))
    for name, wanted in (("layer", label.layer), ("op", label.op)):
        if wanted:
            given = NONE if got[name] is None else str(got[name])
            result.append(Mark(name, given in wanted, "|".join(wanted), given))
    if label.line_text:
        result.append(_line(label, program, first, file))
    for name, exact in (("row", label.row), ("index", label.index), ("batch", label.batch), ("tensor", label.tensor)):
        if exact is not None:
            result.append(Mark(name, str(got[name]) == str(exact), str(exact), str(got[name])))
    return result


def _line(label: Label, program: str, first: Mapping[str, Any], file: str) -> Mark:
    texts = [text for text in label.line_text if text != NONE]
    wanted = sorted({line for text in texts for line in lines_with(program, text)})
    line, where = first.get("line"), first.get("file")
    right = line in wanted and where is not None and Path(where).name == file
    if line is None and NONE in label.line_text:
        right = True
    lines = program.splitlines()
    got = f"{line} {lines[line - 1].strip()[:50]}" if isinstance(line, int) and 0 < line <= len(lines) else str(line)
    return Mark("line", right, "|".join(map(str, wanted)), got)


def _place(first: Mapping[str, Any]) -> str:
    return f"{first.get('step')} {first.get('phase')} {first.get('layer')} {first.get('op')} line {first.get('line')}"
