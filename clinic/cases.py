"""Reads the corpus: a healthy program and a table of faults give pairs of a sick program and its healthy twin."""

import hashlib
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CLINIC = Path(__file__).parent
MOVED = CLINIC / "moved.txt"  # programs of the reported half that were looked into: they count as tune from then on
HALVES = ("tune", "reported")  # thresholds are chosen on the first; the second is only reported on
SEED = re.compile(r"^SEED = \d+$", re.MULTILINE)
Edits = tuple[tuple[str, str], ...]


class BadCase(ValueError):
    """A fault table that does not fit its program."""


@dataclass(frozen=True)
class Case:
    """One program of the corpus. `cause` is what is planted: "healthy" for a program that only looks scary."""

    half: str
    architecture: str
    name: str
    cause: str
    severity: str
    seed: int
    base: Edits
    edits: Edits
    labels: dict[str, str]  # line, phase, op, layer, as far as the author was sure

    @property
    def id(self) -> str:
        return f"{self.half}/{self.architecture}/{self.name}"

    @property
    def counts_as(self) -> str:
        """The half that this case is scored with."""
        return "tune" if self.id in MOVED.read_text().split() else self.half

    @property
    def sick(self) -> str:
        return self._text((*self.base, *self.edits))

    @property
    def twin(self) -> str:
        """The same program without the fault."""
        return self._text(self.base)

    def _text(self, edits: Edits) -> str:
        text = (CLINIC / self.half / f"{self.architecture}.py").read_text(encoding="utf-8")
        for find, replace in edits:
            if text.count(find) != 1:
                raise BadCase(f"{self.id}: {find!r} occurs {text.count(find)} times, not once")
            text = text.replace(find, replace)
        if len(SEED.findall(text)) != 1:
            raise BadCase(f"{self.id}: a line SEED = number is needed, once")
        return SEED.sub(f"SEED = {self.seed}", text)


def digest(program: str) -> str:
    return hashlib.sha256(program.encode()).hexdigest()[:16]


def cases(half: str | None = None, containing: str = "") -> Iterator[Case]:
    """Every case whose id holds `containing`, sick ones and scary healthy ones."""
    for folder in [half] if half else HALVES:
        for table in sorted((CLINIC / folder).glob("*.toml")):
            with table.open("rb") as file:
                content = tomllib.load(file)
            seed = 0
            for kind in ("fault", "healthy"):
                for entry in content.get(kind, []):
                    seed += 1
                    case = _case(folder, table.stem, kind, entry, seed)
                    if containing in case.id:
                        yield case


def _case(half: str, architecture: str, kind: str, entry: dict[str, Any], seed: int) -> Case:
    pairs = {key: tuple((find, replace) for find, replace in entry.get(key, ())) for key in ("base", "edits")}
    return Case(
        half, architecture, entry["name"], entry["cause"] if kind == "fault" else "healthy",
        entry.get("severity", ""), entry.get("seed", seed), pairs["base"], pairs["edits"],
        {key: entry[key] for key in ("line", "phase", "op", "layer") if key in entry},
    )  # fmt: skip
