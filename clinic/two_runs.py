"""Is a silent corruption told from a missing seed? `python -m clinic.two_runs` records pairs and diagnoses A B.

A pair is one seeded program (clinic/pairs) run twice. In a corrupted pair the second run has one bit flipped at a
random step (pairs/upset.py); in a healthy one the two are equal, or a seed is missing. A corruption that did not
change the last printed loss is not counted: nothing was there to see.
"""

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from clinic.cases import CLINIC
from clinic.figures import wilson
from clinic.recorded import HOUSE, TIMEOUT
from clinic.verify import SERVERS

PAIRS = CLINIC / "pairs"
PROGRAMS = {"tabular": 80, "digits": 80, "sequence": 80, "attention": 90}  # their steps
KINDS = ("weight", "activation", "gradient", "reduction", "state")
CHANCE = {"tabular": ("weights", "order"), "sequence": ("weights", "order"),
          "digits": ("weights", "order", "dropout"), "attention": ("weights", "order", "dropout")}  # fmt: skip
BITS = range(22, 32)  # below these a flip is as small as rounding; above 22 lie the exponent and the sign
EARLIEST = 6  # a run that parts earlier than this shows too little of an equal beginning
DRAWN = 11


@dataclass(frozen=True)
class Pair:
    program: str
    name: str  # what differs in the second run
    environment: tuple[tuple[str, str], ...]
    faulty: bool


def pairs() -> Iterator[Pair]:
    """Every program with each kind of corruption, with nothing, and with each of its seeds missing."""
    draw = random.Random(DRAWN)
    for program, steps in PROGRAMS.items():
        for kind in KINDS * 2:
            at, where, element = draw.randrange(EARLIEST, steps - 5), draw.randrange(8), draw.randrange(5000)
            planted = f"{kind} {at} {where} {element} {draw.choice(BITS)}"
            yield Pair(program, planted, (("UPSET", planted),), True)
        yield Pair(program, "again", (), False)
        for missing in CHANCE[program]:
            yield Pair(program, f"unseeded {missing}", (("UNSEEDED", missing),), False)
        yield Pair(program, "unseeded", (("UNSEEDED", " ".join(CHANCE[program])),), False)


def record(program: str, environment: dict[str, str], out: Path) -> str:
    """Its last printed line; the trace lies at `out`."""
    from nandoctor.launch.child import Ended
    from nandoctor.launch.spools import close, of_session

    with tempfile.TemporaryDirectory() as folder:
        for file in (f"{program}.py", "upset.py"):
            shutil.copy(PAIRS / file, folder)
        said, session = Path(folder, "stdout"), out.stem
        code = SERVERS.run(
            mode="recorded", script=str(Path(folder, f"{program}.py")), home=str(HOUSE), timeout=TIMEOUT,
            stdout=str(said), stderr=str(Path(folder, "stderr")),
            environment={
                "NANDOCTOR_HOME": str(HOUSE), "NANDOCTOR_OUTPUT": str(out), "NANDOCTOR_SESSION": session,
                "NANDOCTOR_MARKS": folder, "NANDOCTOR_COMMAND": json.dumps(["python", f"{program}.py"]), **environment,
            },
        )  # fmt: skip
        for spool, header in of_session(str(out), session):
            close(spool, header, Ended(int(header.get("pid", 0)), code))
        return (said.read_text().strip().splitlines() or [""])[-1]


def diagnosed(first: Path, second: Path) -> tuple[str, str]:
    """Verdict and kind of the comparison, as typed."""
    done = subprocess.run(
        [sys.executable, "-m", "nandoctor", "diagnose", first, second, "--json"], capture_output=True, text=True
    )
    if done.returncode not in (0, 1):
        return "refused", done.stderr.strip().splitlines()[-1] if done.stderr.strip() else ""
    found = json.loads(done.stdout)
    return found["verdict"], found.get("comparison", {}).get("kind", "")


def measured(part: str) -> Iterator[tuple[Pair, str, str, bool]]:
    """Each pair that counts: what was said of it, and whether that is right."""
    with tempfile.TemporaryDirectory() as folder:
        plain: dict[str, str] = {}
        for number, pair in enumerate(pair for pair in pairs() if part in f"{pair.program} {pair.name}"):
            first, second = Path(folder, f"{pair.program}.parquet"), Path(folder, f"second{number}.parquet")
            if pair.program not in plain:
                plain[pair.program] = record(pair.program, {}, first)
            last = record(pair.program, dict(pair.environment), second)
            if pair.faulty and last == plain[pair.program]:
                print(f"--    {pair.program:10} {pair.name:28} changed nothing", flush=True)
                continue
            verdict, kind = diagnosed(first, second)
            right = (verdict == "hardware-fault") == pair.faulty and (pair.faulty or verdict == "healthy")
            right = right and (pair.name == "again") == (kind in ("identical", "rounding"))
            print(f"{'right' if right else 'WRONG'} {pair.program:10} {pair.name:28} {verdict} ({kind})", flush=True)
            yield pair, verdict, kind, right


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", nargs="?", default="", help="only pairs whose program and name hold this")
    results = list(measured(parser.parse_args().part))
    for faulty, what in ((True, "corrupted"), (False, "healthy")):
        those = [right for pair, _, _, right in results if pair.faulty is faulty]
        low, high = wilson(sum(those), len(those))
        print(f"{what}: {sum(those)} of {len(those)} right ({low:.0%} to {high:.0%})")
    return int(not all(right for *_, right in results))


if __name__ == "__main__":
    sys.exit(main())
