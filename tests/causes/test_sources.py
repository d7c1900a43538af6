"""Every remedy of docs/sources.md is offered by some cause, or asked for by the checklist or the last questions."""

import inspect
import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from nandoctor.causes.cause import Remedy
from nandoctor.causes.remedies import (
    monash_stability,
    nan_guide,
    nan_root_cause,
    papers,
    repair_not_skip,
    stability_guide,
    torch_docs,
)
from nandoctor.causes.remedies.papers import PAPERS
from nandoctor.report import checklist, questions
from tests.causes.offered import offered, patients

SOURCES = (Path(__file__).parents[2] / "docs" / "sources.md").read_text(encoding="utf-8")
FILES = (monash_stability, nan_guide, nan_root_cause, papers, repair_not_skip, stability_guide, torch_docs)
SECTION = re.compile(r"^## \[([a-z-]+)\]", re.MULTILINE)
LISTS = {  # lists within a line: how each begins -> what stands between its items
    "If still unstable, a numbered list of things to try:": " · ",
    "Prevention:": ";",
    "Order of a plain step:": "With AMP:",
    "Warm-up example:": "\n",
    "Practice:": ";",
    "Checklist of 7:": "·",
    "Checklist of 7, in this order:": "·",
    "Monitoring:": ";",
    "Answers:": ". ",
    "If nothing helps, check:": ",",
}
MEASURED = ("configuration", "precision")  # tables of results: a row that ended in NaN advises nothing
NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)?(?:e[+-]?\d+)?(?!\w|\.\d)")
Covers = dict[tuple[str, str], set[str]]  # (document, words of it) -> what says so


def rows(text: str) -> list[tuple[str, str]]:
    """(document, row) of all its tables and lists."""
    found: list[tuple[str, str]] = []
    parts = SECTION.split(text)
    for name, body in zip(parts[1::2], parts[2::2], strict=True):
        lines = re.sub(r"\n(?=[a-z])", " ", body.partition("\n## ")[0]).splitlines()  # a sentence that goes on
        found += [(name, row) for row in _tables(lines)]
        for line in lines:
            head = next((begin for begin in LISTS if line.startswith(begin)), None)
            if head is not None:
                items = line.removeprefix(head).split(LISTS[head])
                found += [(name, item.strip()) for item in items if item.strip(" .?")]
    return found


def _tables(lines: list[str]) -> Iterable[str]:
    measured = False
    for before, line in zip(["", *lines], lines, strict=False):
        if not line.startswith("|"):
            continue
        if not before.startswith("|"):
            measured = line.split("|")[1].strip() in MEASURED
        elif set(line) - set("| -") and not (measured and "| NaN |" in line):
            yield line.strip("| ")


def covers() -> Covers:
    found: Covers = {}
    for _, remedy in offered():
        for words in remedy.covers:
            found.setdefault((remedy.source, words), set()).add(f"{remedy.title} {remedy.change} {remedy.code}")
    for patient in patients():
        for item in checklist.items(patient):
            for source, words in item.sources:
                found.setdefault((source, words), set()).add(f"{item.answer} {item.asks}")
    for words in questions.ASKED:
        found.setdefault((questions.SOURCE, words), set()).add(words)
    return found


COVERS = covers()


def uncovered(text: str, told: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    told = list(told)
    return [(name, row) for name, row in rows(text) if not any(name == n and words in row for n, words in told)]


def test_the_copy_holds_five_documents_with_their_tables_and_lists():
    assert SECTION.findall(SOURCES) == [
        "monash-stability", "nan-root-cause", "stability-guide", "repair-not-skip", "nan-guide"
    ]  # fmt: skip
    assert len(rows(SOURCES)) == 78
    for begin in LISTS:
        assert f"\n{begin}" in SOURCES


def test_every_row_is_offered_by_some_cause():
    assert uncovered(SOURCES, COVERS) == []


def test_a_row_that_nobody_offers_is_found():
    table = "| lower learning rate | 5e-5 -> 1e-5 |\n"
    more = SOURCES.replace(table, table + "| magnets | one on each side of the disk |\n")
    more = more.replace("Prevention: ", "Prevention: turn it off and on; ")
    assert uncovered(more, COVERS) == [
        ("monash-stability", "magnets | one on each side of the disk"), ("nan-root-cause", "turn it off and on"),
    ]  # fmt: skip


@pytest.mark.parametrize("source, words", sorted(COVERS))
def test_what_a_remedy_claims_to_be_stands_in_its_document(source: str, words: str):
    assert [row for name, row in rows(SOURCES) if name == source and words in row]


@pytest.mark.parametrize("source, words", sorted(COVERS))
def test_a_remedy_names_the_numbers_of_its_row(source: str, words: str):
    numbers = {float(number) for number in NUMBER.findall(words)}
    said = [{float(number) for number in NUMBER.findall(text)} for text in COVERS[source, words]]
    assert any(numbers <= told for told in said), "no patient is told them"


def test_no_remedy_is_written_that_no_cause_offers():
    told = {remedy.source + remedy.title for _, remedy in offered()}
    for module in FILES:
        for name, function in inspect.getmembers(module, inspect.isfunction):
            if function.__annotations__.get("return") is Remedy and not name.startswith("_"):
                written = {remedy.source + remedy.title for remedy in map(function, patients())}
                assert written & told, f"{module.__name__}.{name}"


def test_papers_in_the_copy_are_those_that_remedies_name():
    listed = re.findall(r"^\| ([a-z]+-\d{4}) \| (.*) \|$", SOURCES, re.MULTILINE)
    assert dict(listed) == PAPERS
    named = {remedy.source for _, remedy in offered()}
    documents = set(SECTION.findall(SOURCES))
    assert all(name in PAPERS or name in documents or name.startswith("https://docs.pytorch.org/") for name in named)
