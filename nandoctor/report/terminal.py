"""A diagnosis for a person in a hurry: at most 40 lines of 100 columns, or everything with `full`."""

import re
import signal
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass

from nandoctor.causes import healthy, unknown
from nandoctor.causes.cause import Fact, Remedy
from nandoctor.causes.remedies.papers import PAPERS
from nandoctor.diagnosis import FAINT, Diagnosis, Finding, Run
from nandoctor.evidence import Bad, Evidence
from nandoctor.report import checklist, questions, treatment
from nandoctor.report.plain import plain

COLUMNS = 100
LINES = 40
SHORT = {"evidence": 6, "remedies": 4, "candidates": 3, "not_seen": 3}  # items of a list in the short report
WHAT_TO_DO = "What to do, in this order"
BOLD, RED, GREEN, DIM, OFF = "\x1b[1m", "\x1b[31m", "\x1b[32m", "\x1b[2m", "\x1b[0m"


@dataclass(frozen=True)
class Part:
    """Lines that belong together. What does not fit is left out item by item from the end, never in the middle."""

    head: tuple[str, ...]
    items: tuple[tuple[str, ...], ...] = ()
    left_out: int = 0

    @property
    def lines(self) -> list[str]:
        more = [f"  ... {self.left_out} more"] if self.left_out else []
        return [*self.head, *(line for item in self.items for line in item), *more]

    def shorter(self) -> "Part":
        return Part(self.head, self.items[:-1], self.left_out + 1)


def render(diagnosis: Diagnosis, full: bool = False, colour: bool = False) -> str:
    """The report as text. The longest part gives way where 40 lines are too few; the checklist stands at the end."""
    parts, end = _parts(diagnosis, full), _checklist(diagnosis, full)
    while not full and sum(len(part.lines) for part in parts) > LINES - 1 - len(end):
        parts = _shortened(parts)
    lines = [line for part in parts for line in part.lines]
    if any(part.left_out for part in parts):
        lines.append("... marks what is left out: nandoctor diagnose --full")
    lines += end
    return "\n".join(_coloured(lines, diagnosis.healthy) if colour else lines)


def _shortened(parts: list[Part]) -> list[Part]:
    """One item less: from the longest part that keeps one, else from any."""
    able = [part for part in parts if len(part.items) > 1] or [part for part in parts if part.items]
    if not able:
        return parts[:-1]
    longest = max(able, key=lambda part: len(part.lines))
    return [part.shorter() if part is longest else part for part in parts]


def _parts(diagnosis: Diagnosis, full: bool) -> list[Part]:
    first = diagnosis.findings[0] if diagnosis.findings else None
    nobody_knows = diagnosis.verdict == "unknown"
    others = diagnosis.findings if nobody_knows else diagnosis.findings[1:]
    if not full and diagnosis.reading is None:  # a log leaves many causes open, each of them faint
        others = tuple(finding for finding in others if finding.confidence > FAINT)
    parts = [Part(tuple(head(diagnosis))), Part(tuple(state(diagnosis)))]
    if diagnosis.evidence.treated:
        parts.append(_listed("What was done while it ran", treatment.lines(diagnosis.evidence.treated, full), None))
    if diagnosis.first_nonfinite is not None:
        born = birth(diagnosis.first_nonfinite, full, diagnosis.run)
        parts.append(Part(tuple(born[:2]), tuple((line,) for line in born[2:])))
    if diagnosis.across_ranks:
        parts.append(_listed(f"The {diagnosis.run.ranks} ranks beside each other", diagnosis.across_ranks, None))
    from_a_log = diagnosis.reading is not None
    if first is not None and (from_a_log or not nobody_knows):
        parts.append(_evidence(first, full, diagnosis.across_ranks))
        parts.append(_remedies(WHAT_TO_DO, first.remedies, full))
    if others:
        parts.append(_candidates(others, full))
    if nobody_knows and not from_a_log:
        parts.append(_remedies("What the documents do then", unknown.remedies(diagnosis.evidence), full))
        parts.append(_listed(f"If nothing helps [{questions.SOURCE}]", questions.answers(diagnosis.evidence), None))
    elif diagnosis.healthy and full:
        parts.append(_remedies("If it converges slowly", healthy.remedies(diagnosis.evidence), full))
    if diagnosis.reading is not None:
        parts.append(_listed(diagnosis.reading.heading, (diagnosis.reading.sure, diagnosis.reading.more), None))
    if diagnosis.not_seen:
        parts.append(_listed("Not seen", diagnosis.not_seen, None if full else SHORT["not_seen"]))
    return [part for part in parts if part.lines]


def head(diagnosis: Diagnosis) -> list[str]:
    if diagnosis.reading is not None and diagnosis.healthy:
        return _wrapped(diagnosis.reading.said, "")
    if diagnosis.reading is not None and diagnosis.verdict == "unknown":
        return _wrapped(f"unknown: {diagnosis.reading.said}", "", "  ")
    if diagnosis.healthy:
        return _wrapped(f"healthy: nothing failed in {diagnosis.run.steps} steps.", "")
    first = diagnosis.findings[0] if diagnosis.findings else None
    if diagnosis.verdict == "unknown" or first is None:
        failed = "unknown: something failed, and no cause is likelier than not."
        watch = diagnosis.first_nonfinite.step if diagnosis.first_nonfinite else diagnosis.evidence.onset.step
        bad = diagnosis.first_nonfinite
        how = "--eager" if bad is not None and bad.method == "compiled" else f"--watch-step {watch}"
        again = f"A second run tells more: nandoctor record {how} -- COMMAND"
        return [*_wrapped(failed, ""), *_wrapped(again, "  ")]
    line = f"{first.cause} (confidence {first.confidence:.0%}): {first.title}"
    return [*_wrapped(line, ""), *_wrapped(first.summary, "  ")]


def state(diagnosis: Diagnosis) -> list[str]:
    """How the run ended, where that is worth a line."""
    run = diagnosis.run
    found = []
    if run.alive:
        found.append(f"The training still runs: read as far as it went, {run.steps} steps.")
    if run.exit_code is not None and run.exit_code < 0:
        found.append(f"The run was killed by {_signal_name(-run.exit_code)} after {run.steps} steps.")
    elif run.crash is not None:
        place = f" at {run.crash.file}:{run.crash.line}" if run.crash.file else ""
        known = any(run.crash.message[:60] in fact.fact for f in diagnosis.findings for fact in f.verdict.evidence)
        said = run.crash.text if known and run.crash.text else run.crash.message
        found.append(f"The run ended with {run.crash.type}{place}: {said}")
    first, evaluation = diagnosis.evidence.incidents.first, diagnosis.evidence.incidents.evaluation
    if evaluation is not None and first is not None:
        found.append(f"Evaluation turned {evaluation.kind or 'non-finite'} as well, at step {evaluation.step}.")
    if diagnosis.evidence.incidents.by_design and first is None:
        found.append(f"{diagnosis.evidence.incidents.by_design} overflows were skipped by the GradScaler, as designed.")
    return [line for text in found for line in _wrapped(text, "", longest=2 * COLUMNS)[:2]]


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def birth(bad: Bad, full: bool, run: Run) -> list[str]:
    kind = bad.kind or "non-finite value"
    where = [f"rank {run.rank} of {run.ranks}"] if run.ranks > 1 else []
    where.append(f"step {bad.step}")
    where += [
        f"{name} {value}"
        for name, value in (("batch", bad.batch), ("micro", bad.micro), ("epoch", bad.epoch))
        if value is not None and (value != bad.step if name == "batch" else value > 0)
    ]
    if bad.layer is not None or bad.module is not None:
        module = f" ({bad.module})" if bad.module else ""
        where.append(f"layer {bad.layer or 'the model itself'}{module}")
    if bad.op:
        where.append(f"operation {bad.op}")
    if bad.tensor is not None:
        where.append(f"tensor {bad.tensor}")
    where += [f"{name} {value}" for name, value in (("row", bad.row), ("index", bad.index)) if value is not None]
    mode = ", in evaluation" if bad.mode == "eval" else ""
    found = ["", f"First non-finite value: {kind}, phase {bad.phase}{mode}", *_wrapped(", ".join(where), "  ")]
    if bad.file:
        text = f"    {bad.text.strip()}" if bad.text else ""
        found.append(_cut(f"  {bad.file}:{bad.line}{text}"))
    if bad.library_file:
        package = re.split(r"(?:site|dist)-packages[/\\]", bad.library_file)[-1]  # where it is installed tells nothing
        found.append(_cut(f"  inside {package}:{bad.library_line}"))
    operands = bad.operands if full else bad.operands[:3]
    for operand in operands:
        bits = f", {operand.nan} nan, {operand.inf} inf" if operand.nan or operand.inf else ""
        zeros = f", {operand.zeros} zeros" if operand.zeros else ""
        text = f"{operand.role}: {operand.dtype} in [{operand.low:.4g}, {operand.high:.4g}]{zeros}{bits}"
        found.append(_cut(f"  {text}"))
    return found


def _evidence(finding: Finding, full: bool, told: tuple[str, ...]) -> Part:
    """What was told already is left out."""
    facts = [_fact(fact) for fact in finding.verdict.evidence if fact.fact not in told]
    if full:
        facts += [f"against it: {text}" for text in finding.verdict.against]
    return _listed("Evidence", facts, None if full else SHORT["evidence"])


def _fact(fact: Fact) -> str:
    step = f" (step {fact.step})" if fact.step is not None and f"step {fact.step}" not in fact.fact else ""
    return f"{fact.fact}{step}"


def _remedies(title: str, remedies: tuple[Remedy, ...], full: bool) -> Part:
    shown = remedies if full else remedies[: SHORT["remedies"]]
    items = [tuple(_remedy(number, remedy)) for number, remedy in enumerate(shown, start=1)]
    if full:  # an id that is no document of docs/sources.md is said in full
        used = dict.fromkeys(remedy.source for remedy in shown if remedy.source in PAPERS)
        items += [tuple(_wrapped(f"[{name}] {PAPERS[name]}", "  ", "    ")) for name in used]
    return Part(("", title), tuple(items), len(remedies) - len(shown))


def _remedy(number: int, remedy: Remedy) -> list[str]:
    text = f"{number}. {remedy.title}: {remedy.change} [{remedy.source}]"
    return [*_wrapped(text, "  ", hanging="     ", longest=800), *_code(remedy.code or "")]


def _code(text: str) -> list[str]:
    """Whole, broken behind a comma or a semicolon: it is there to be copied."""
    lines: list[str] = []
    for piece in re.split(r"(?<=[,;]) +", plain(text, 10 * COLUMNS)):
        joined = f"{lines[-1]} {piece}" if lines else f"       {piece}"
        if len(joined) <= COLUMNS:
            lines[-1:] = [joined]
        else:
            lines += _wrapped(piece, "         " if lines else "       ", "         ", 10 * COLUMNS)
    return [line for line in lines if line.strip()]


def _candidates(findings: Iterable[Finding], full: bool) -> Part:
    texts = []
    for finding in findings:
        against = finding.verdict.against if full else finding.verdict.against[:2]
        said = f"; against: {'; '.join(against)}" if against else ""
        texts.append(f"{finding.cause} ({finding.confidence:.0%}): {finding.summary.rstrip('.')}{said}")
    return _listed("Other candidates", texts, None if full else SHORT["candidates"])


def _listed(title: str, texts: Iterable[str], most: int | None) -> Part:
    texts = list(texts)
    shown = texts if most is None else texts[:most]
    longest = 800 if most is None else 3 * COLUMNS - 20
    items = tuple(tuple(_wrapped(f"- {text}", "  ", hanging="    ", longest=longest)) for text in shown)
    return Part(("", title), items, len(texts) - len(shown))


def _checklist(diagnosis: Diagnosis, full: bool) -> list[str]:
    """A healthy run has nothing to check, unless everything is asked for; a log cannot fill it in."""
    if diagnosis.reading is not None:
        return []
    evidence: Evidence = diagnosis.evidence
    if full:
        return _listed("Checklist of the documents", checklist.full(evidence), None).lines
    lines = [] if diagnosis.healthy else checklist.short(evidence)
    return ["", *map(_cut, lines)] if lines else []


def _wrapped(text: str, indent: str, hanging: str | None = None, longest: int = 600) -> list[str]:
    return textwrap.wrap(
        plain(text, longest),
        COLUMNS,
        initial_indent=indent,
        subsequent_indent=indent if hanging is None else hanging,
        break_on_hyphens=False,
    )


def _cut(line: str) -> str:
    indent = line[: len(line) - len(line.lstrip())]
    return indent + plain(line, COLUMNS - len(indent))


def _coloured(lines: list[str], healthy: bool) -> list[str]:
    found = [f"{BOLD}{GREEN if healthy else RED}{lines[0]}{OFF}"]
    for before, line in zip(lines, lines[1:], strict=False):
        if before == "" and line:
            found.append(f"{BOLD}{line}{OFF}")
        else:
            found.append(f"{DIM}{line}{OFF}" if line.startswith("       ") else line)
    return found
