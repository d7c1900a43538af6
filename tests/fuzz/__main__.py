"""make fuzz: ten thousand mutations, every cut, every strange file; the result as a table.

python -m tests.fuzz [MUTATIONS [SEED [docs/fuzz.md]]]
"""

import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.fuzz import bases
from tests.fuzz.mutations import CONTENT, FILES, Mutation, apply, command_of, mutations
from tests.fuzz.strange import commands, strange
from tests.fuzz.worker import Outcome, Worker
from tests.machine import machine

CUT_EVERY = 1000  # bytes


@dataclass
class Tally:
    """One line of the table."""

    runs: int = 0
    read: int = 0
    refused: int = 0
    wrong: list[str] = field(default_factory=list)
    seconds: float = 0.0
    mebibytes: float = 0.0

    def add(self, done: Outcome, what: object, refused: bool | None = None) -> None:
        self.runs += 1
        self.refused += done.code == 2
        self.read += done.code in (0, 1)
        self.seconds, self.mebibytes = max(self.seconds, done.seconds), max(self.mebibytes, done.mebibytes)
        wrong = done.wrong or (f"ended with {done.code}" if refused and done.code != 2 else None)
        if wrong:
            key = wrong.strip().splitlines()[-1]
            if not any(key in earlier for earlier in self.wrong):
                print(f"{what}\n{wrong[-3000:]}\n", file=sys.stderr, flush=True)
            self.wrong.append(key)


def main() -> int:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    number = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    worker = Worker()
    tallies: dict[str, Tally] = {}
    with tempfile.TemporaryDirectory() as name:
        sound = Path(name) / "sound"
        sound.mkdir()
        bases.make(sound)
        for case, done, what, refused in (
            *_strange(worker, sound, Path(name)),
            *_cuts(worker, sound, Path(name)),
        ):
            tallies.setdefault(case, Tally()).add(done, what, refused)

        @seed(number)
        @settings(max_examples=count, database=None, deadline=None, phases=(Phase.generate,),
                  suppress_health_check=list(HealthCheck))  # fmt: skip
        @given(mutations(FILES))
        def each(mutation: Mutation) -> None:
            with tempfile.TemporaryDirectory(dir=name) as folder:
                work = Path(folder)
                target = apply(mutation, sound, work)
                command = command_of(mutation, target, work, sound / bases.TWIN)
                content = any(change.how in CONTENT for change in mutation.changes) and target.suffix != ".log"
                how = "content" if content else "bytes"
                case = f"mutated: {_kind(mutation.base)}, {how}"
                tallies.setdefault(case, Tally()).add(worker.run(command, work), (mutation, command))

        each()
    worker.stop()
    table = _table(tallies)
    print(table)
    if len(sys.argv) > 3:
        _write(Path(sys.argv[3]), table, count)
    return 1 if any(tally.wrong for tally in tallies.values()) else 0


Case = tuple[str, Outcome, object, bool | None]


def _strange(worker: Worker, sound: Path, folder: Path) -> Iterator[Case]:
    work = folder / "strange"
    work.mkdir()
    for one in strange(work):
        for command in commands(one, sound / bases.TWIN, work):
            yield f"strange: {_printable(one.name)}", worker.run(command, work), (one.name, command), one.refused


def _cuts(worker: Worker, sound: Path, folder: Path) -> Iterator[Case]:
    work = folder / "cut"
    work.mkdir()
    for name in (*bases.TRACES, bases.OTHER, *bases.LOGS):
        data, target = (sound / name).read_bytes(), work / name
        several: Sequence[list[str]] = [["diagnose", str(target)]]
        if target.suffix == ".parquet":
            several = [*several, ["show", str(target)], ["plot", "loss", str(target), "-o", str(work / "picture.png")]]
        for end in range(0, len(data), CUT_EVERY):
            for command in several:
                target.write_bytes(data[:end])
                yield f"cut at every {CUT_EVERY}th byte: {_kind(name)}", worker.run(command, work), (end, command), None


def _kind(base: str) -> str:
    return {".parquet": "trace", ".spool": "spool"}.get(Path(base).suffix, f"log ({Path(base).suffix})")


def _printable(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def _table(tallies: dict[str, Tally]) -> str:
    lines = [
        "| files | commands run | read | refused in words | wrong | slowest, CPU s | most memory added, MiB |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, tally in tallies.items():
        numbers = (tally.runs, tally.read, tally.refused, len(tally.wrong))
        cells = " | ".join(f"{number:,}" for number in numbers)
        lines.append(f"| {name} | {cells} | {tally.seconds:.1f} | {tally.mebibytes:.0f} |")
    total = [
        sum(values)
        for values in zip(*((t.runs, t.read, t.refused, len(t.wrong)) for t in tallies.values()), strict=True)
    ]
    slowest, most = max(t.seconds for t in tallies.values()), max(t.mebibytes for t in tallies.values())
    return "\n".join([*lines, f"| all | {' | '.join(f'{n:,}' for n in total)} | {slowest:.1f} | {most:.0f} |"])


def _write(path: Path, table: str, count: int) -> None:
    """The prose above the table stays as it is."""
    prose = path.read_text(encoding="utf-8").partition("## Result")[0]
    told = f"{date.today()}, {count:,} mutations, {machine()}."
    path.write_text(f"{prose}## Result\n{told}\n\n{table}\n", encoding="utf-8")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        traceback.print_exc(limit=1)
        sys.exit(130)
