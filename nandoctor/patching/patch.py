"""A diagnosis -> a unified diff of the user's script, or the lines of code that a person must put in by hand."""

import difflib
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nandoctor.diagnosis import Diagnosis
from nandoctor.evidence.treated import helped, in_force
from nandoctor.patching.choices import wanted_of
from nandoctor.patching.edits import EDITS, Wanted
from nandoctor.patching.source import Source, read_script


@dataclass(frozen=True)
class Patch:
    diff: str  # "" where no line could be changed
    by_hand: tuple[str, ...]  # what is still to be done, in sentences and code


def patch(diagnosis: Diagnosis, folder: Path) -> Patch:
    """Reads scripts below the folder only."""
    sources, by_hand = edited(diagnosis, folder)
    return Patch("".join(diff(source) for source in sources), tuple(dict.fromkeys(by_hand)))


def edited(diagnosis: Diagnosis, folder: Path) -> tuple[list[Source], list[str]]:
    """The scripts with their changes, and what is still to be done by hand. Several cures may change one script."""
    sources = scripts(diagnosis, folder)
    by_hand: list[str] = []
    done = False
    for alternatives in cures(diagnosis):
        able = any(_made(wanted, sources, diagnosis) for wanted in alternatives)  # the first that can be done
        done = done or able
        if not able:
            by_hand += remedies(diagnosis)
    if not done and not by_hand:
        by_hand = remedies(diagnosis)
    return sources, by_hand


def _made(wanted: Wanted, sources: list[Source], diagnosis: Diagnosis) -> bool:
    """An edit that ends halfway, or in what Python cannot read, is taken back."""
    edit = EDITS.get(str(wanted.get("kind")))
    done = False
    for source in sources:
        before = source.mark()
        if edit is not None and edit(source, diagnosis.evidence, wanted) and source.sound():
            done = True
        else:
            source.back(before)
    return done


def cures(diagnosis: Diagnosis) -> Iterator[list[Wanted]]:
    """What has helped while it ran; else what was still in force at the end; else what the verdict asks for."""
    actions = diagnosis.evidence.treated
    standing = [action for action in in_force(actions) if action.patch]
    proved = [action for action in standing if helped(action, actions) or action.event == "once"]
    seen: set[str] = set()
    for action in proved or standing:
        if action.kind not in seen or action.kind == "operation":
            seen.add(action.kind)
            yield [action.patch]
    if not seen and not diagnosis.healthy:
        wanted = wanted_of(diagnosis.verdict, diagnosis.evidence)
        if wanted:
            yield wanted


def remedies(diagnosis: Diagnosis) -> list[str]:
    found = []
    for finding in diagnosis.findings[:1]:
        texts = [(f"{remedy.title}: {remedy.change}", remedy.code) for remedy in finding.remedies[:3]]
        found += [f"{text}\n    {code}" if code else text for text, code in texts]
    return found


def scripts(diagnosis: Diagnosis, folder: Path) -> list[Source]:
    """The script of the command, and the file of the first bad value."""
    words = shlex.split(diagnosis.run.command) if diagnosis.run.command else []
    names = [word for word in words if word.endswith(".py")][:1]
    bad = diagnosis.first_nonfinite
    if bad is not None and bad.file:
        names.append(bad.file)
    found: dict[str, Source] = {}
    for name in names:
        source = read_script(folder, name)
        if source is not None:
            found.setdefault(source.name, source)
    return list(found.values())


def diff(source: Source) -> str:
    old, new = [f"{line}\n" for line in source.lines], [f"{line}\n" for line in source.changed()]
    return "".join(difflib.unified_diff(old, new, source.name, source.name))
