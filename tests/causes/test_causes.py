"""Every cause claims its own patient and leaves its neighbours alone."""

import re
from pathlib import Path

import pytest

from nandoctor.causes import CAUSES, treatments
from nandoctor.causes.cause import Cause, Verdict
from nandoctor.causes.pages import FOLDER, HEADINGS, markdown, pages
from nandoctor.causes.remedies.papers import PAPERS
from nandoctor.evidence import Evidence
from tests.causes.patients import HEALTHY, PATIENTS

CONTRACT = Path(__file__).parents[2] / "nandoctor" / "contract" / "causes.md"
DOCUMENTS = {"nan-guide", "monash-stability", "nan-root-cause", "stability-guide", "repair-not-skip"}
SURE = {"hardware-fault": 0.3}  # from one trace it is a candidate and never more
BY_ID = {cause.id: cause for cause in CAUSES}
NAMES = {value for name, value in vars(treatments).items() if name.isupper()}


def neighbours() -> list[tuple[str, str]]:
    """(cause, what it is not to be confused with), both ways, of the contract's table."""
    pairs = set()
    for line in CONTRACT.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) != 3 or cells[0].strip("`") not in BY_ID:
            continue
        other = re.match(r"[a-z0-9-]+", cells[2])
        if other and other[0] in BY_ID:
            pairs |= {(cells[0].strip("`"), other[0]), (other[0], cells[0].strip("`"))}
    return sorted(pairs)


def confidence(cause: Cause, patient: Evidence) -> float:
    answer = cause.judge(patient)
    return answer.confidence if isinstance(answer, Verdict) else 0.0


def test_the_contract_names_neighbours():
    assert len(neighbours()) >= 12


@pytest.mark.parametrize("name", BY_ID)
def test_claims_its_patient_and_is_ranked_first(name: str):
    ranked = sorted(CAUSES, key=lambda cause: -confidence(cause, PATIENTS[name]))
    assert confidence(BY_ID[name], PATIENTS[name]) >= SURE.get(name, 0.7)
    assert ranked[0].id == name


@pytest.mark.parametrize(("name", "neighbour"), neighbours())
def test_leaves_its_neighbours_alone(name: str, neighbour: str):
    assert confidence(BY_ID[name], PATIENTS[neighbour]) < 0.5


@pytest.mark.parametrize("name", BY_ID)
def test_a_healthy_run_is_not_accused(name: str):
    assert not isinstance(BY_ID[name].judge(HEALTHY), Verdict)


@pytest.mark.parametrize("name", BY_ID)
def test_its_evidence_and_its_remedies_are_this_runs_own(name: str):
    patient = PATIENTS[name]
    answer = BY_ID[name].judge(patient)
    assert isinstance(answer, Verdict) and answer.evidence and answer.summary
    remedies = BY_ID[name].remedies(patient)
    assert remedies
    for remedy in remedies:
        known = remedy.source in DOCUMENTS or remedy.source in PAPERS
        assert known or remedy.source.startswith("https://docs.pytorch.org/")
        assert remedy.treatment is None or remedy.treatment in NAMES
        assert remedy.title and remedy.change
    assert any(remedy.source in DOCUMENTS for remedy in remedies)


@pytest.mark.parametrize("name", BY_ID)
def test_remedies_need_no_evidence_to_be_written(name: str):
    bare = Evidence(0, HEALTHY.incidents, HEALTHY.onset, HEALTHY.precision, HEALTHY.style)
    assert BY_ID[name].remedies(bare)


@pytest.mark.parametrize("name", pages())
def test_a_page_has_its_headings_in_order(name: str):
    places = [pages()[name].index(f"\n{heading}\n") for heading in HEADINGS]
    assert places == sorted(places)


@pytest.mark.parametrize("name", pages())
def test_the_generated_page_is_fresh(name: str):
    assert (FOLDER / f"{name}.md").read_text(encoding="utf-8") == markdown(name, pages()[name]), (
        "run python -m nandoctor.causes.pages"
    )


def test_no_page_is_left_of_a_cause_that_is_gone():
    assert {path.stem for path in FOLDER.glob("*.md")} == set(pages())


def test_a_cause_lives_in_the_file_of_its_name():
    folder = Path(treatments.__file__).parent
    for name in BY_ID:
        assert (folder / f"{name.replace('-', '_')}.py").is_file()
