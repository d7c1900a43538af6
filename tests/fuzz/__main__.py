"""make fuzz: ten thousand mutations, every cut, every hostile file; what was found, as a table."""

import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.fuzz import bases
from tests.fuzz.mutations import FILES, Mutation, apply, command_of, mutations
from tests.fuzz.worker import Worker


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    number = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    worker = Worker()
    found: dict[str, list[str]] = {}
    codes: Counter[object] = Counter()
    with tempfile.TemporaryDirectory() as name:
        sound = Path(name) / "sound"
        sound.mkdir()
        bases.make(sound)

        @seed(number)
        @settings(max_examples=count, database=None, deadline=None, phases=(Phase.generate,),
                  suppress_health_check=list(HealthCheck))  # fmt: skip
        @given(mutations(FILES))
        def each(mutation: Mutation) -> None:
            with tempfile.TemporaryDirectory(dir=name) as folder:
                work = Path(folder)
                target = apply(mutation, sound, work)
                command = command_of(mutation, target, work, sound / bases.TWIN)
                done = worker.run(command, work)
                codes[done.code] += 1
                if done.wrong:
                    key = done.wrong.strip().splitlines()[-1][:110]
                    if "Traceback" in done.wrong:
                        place = [line for line in done.wrong.splitlines() if line.lstrip().startswith("File")][-1]
                        key = f"{key} @ {place.strip()[-90:]}"
                    if key not in found:
                        print(f"{mutation}\n{command}\n{done.wrong[-2500:]}\n", flush=True)
                    found.setdefault(key, []).append(f"{mutation}")
                if sum(codes.values()) % 500 == 0:
                    print(
                        sum(codes.values()),
                        dict(codes),
                        {k: len(v) for k, v in found.items()},
                        time.process_time(),
                        flush=True,
                    )

        each()
    worker.stop()
    print(codes, sum(codes.values()))
    for key, several in found.items():
        print(len(several), key)


main()
