"""The short form of `make fuzz`: hostile files get words and exit code 2, or a right answer for what is there."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from tests.fuzz import bases
from tests.fuzz.mutations import FILES, Mutation, apply, command_of, mutations
from tests.fuzz.strange import Strange, commands, strange
from tests.fuzz.worker import Worker

MUTATIONS = 150


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound")
    bases.make(folder)
    return folder


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    made = Worker()
    yield made
    made.stop()


def test_no_mutation_of_a_sound_file_surprises_a_command(sound, worker, tmp_path):
    numbers = iter(range(10**6))

    @settings(max_examples=MUTATIONS, suppress_health_check=list(HealthCheck), deadline=None, database=None)
    @given(mutations(FILES))
    def each(mutation: Mutation) -> None:
        work = tmp_path / str(next(numbers))
        work.mkdir()
        command = command_of(mutation, apply(mutation, sound, work), work, sound / bases.TWIN)
        done = worker.run(command, work)
        assert done.wrong is None, done.wrong

    each()


def test_what_no_mutation_finds_is_refused_or_read_as_far_as_it_goes(sound, worker, tmp_path):
    wrong = []
    for number, one in enumerate(strange(tmp_path)):
        if not one.heavy:
            several = list(commands(one, sound / bases.TWIN, tmp_path))
            # make fuzz runs all of them: a file that is refused is refused by the reader they share
            chosen = [several[0]] if one.refused else [several[1], several[number % len(several)]]
            wrong += [words for command in chosen if (words := judged(worker, one, command, tmp_path))]
    assert not wrong, "\n".join(wrong)


def judged(worker: Worker, one: Strange, command: list[str], folder: Path) -> str | None:
    """What is wrong, in words."""
    done = worker.run(command, folder)
    if done.wrong is None and one.refused and done.code != 2:
        return f"{one.name}: {command[:2]} ended with {done.code}"
    if done.wrong is None and one.refused is False and command[0] == "diagnose" and done.code == 2:
        if len([word for word in command if os.sep in word]) == 1:  # two traces may be of different programs
            return f"{one.name} was not read"
    return done.wrong and f"{one.name}: {command[:3]}: {done.wrong}"


@pytest.mark.parametrize("name", [bases.TRACES[0], *bases.LOGS])
def test_a_file_cut_anywhere_is_refused_or_read_as_far_as_it_goes(name, sound, worker, tmp_path):
    data = (sound / name).read_bytes()
    for end in range(0, len(data), 5000):  # make fuzz: at every 1,000th byte
        (tmp_path / name).write_bytes(data[:end])
        done = worker.run(["diagnose", str(tmp_path / name)], tmp_path)
        assert done.wrong is None, (end, done.wrong)
        os.unlink(tmp_path / name)
