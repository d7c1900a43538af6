"""A diagnosis as HTML for a notebook's cell: no script, no style sheet, no colours but the verdict's.

Everything in it comes from a trace or a log, so from strangers: it is made plain and escaped, piece by piece.
"""

import html
from collections.abc import Iterable

from nandoctor.causes.cause import Remedy
from nandoctor.diagnosis import FAINT, Diagnosis, Finding
from nandoctor.report import terminal
from nandoctor.report.plain import plain

LONGEST = 800  # characters of one item
RED, GREEN = "#c0392b", "#1e8449"  # both readable on white and on black


def render(diagnosis: Diagnosis) -> str:
    """The short report, and everything below a line that opens."""
    first = diagnosis.findings[0] if diagnosis.findings else None
    from_a_log = diagnosis.reading is not None
    likely = first if first is not None and (from_a_log or diagnosis.verdict != "unknown") else None
    others = tuple(f for f in diagnosis.findings if f is not likely and (from_a_log or f.confidence > FAINT))
    parts = [_verdict(diagnosis), *(f"<p>{_text(line)}</p>" for line in terminal.state(diagnosis))]
    if diagnosis.first_nonfinite is not None:
        born = [line for line in terminal.birth(diagnosis.first_nonfinite, False, diagnosis.run) if line]
        parts.append(f"<h4>{_text(born[0])}</h4>{_pre(born[1:])}")
    if likely is not None:
        parts.append(_list("Evidence", (_text(fact.fact) for fact in likely.verdict.evidence)))
        parts.append(_list(terminal.WHAT_TO_DO, map(_remedy, likely.remedies), "ol"))
    parts.append(_list("Other candidates", map(_candidate, others)))
    if diagnosis.reading is not None:
        parts.append(_list(diagnosis.reading.heading, map(_text, (diagnosis.reading.sure, diagnosis.reading.more))))
    parts.append(_list("Not seen", map(_text, diagnosis.not_seen)))
    whole = terminal.render(diagnosis, full=True).splitlines()
    parts.append(f"<details><summary>everything</summary>{_pre(whole)}</details>")
    return f'<div style="max-width: 60em; text-align: left">{"".join(parts)}</div>'


def _verdict(diagnosis: Diagnosis) -> str:
    first, *rest = terminal.head(diagnosis)
    colour = GREEN if diagnosis.healthy else RED
    said = " ".join(line.strip() for line in rest)
    return f'<h3 style="color: {colour}">{_text(first)}</h3>' + (f"<p>{_text(said)}</p>" if said else "")


def _remedy(remedy: Remedy) -> str:
    code = _pre([remedy.code]) if remedy.code else ""
    return f"{_text(remedy.title)}: {_text(remedy.change)} [{_text(remedy.source)}]{code}"


def _candidate(finding: Finding) -> str:
    against = f"; against: {'; '.join(finding.verdict.against[:2])}" if finding.verdict.against else ""
    return _text(f"{finding.cause} ({finding.confidence:.0%}): {finding.summary.rstrip('.')}{against}")


def _list(title: str, items: Iterable[str], tag: str = "ul") -> str:
    """`items` are HTML already."""
    inside = "".join(f"<li>{item}</li>" for item in items)
    return f"<h4>{title}</h4><{tag}>{inside}</{tag}>" if inside else ""


def _pre(lines: Iterable[str]) -> str:
    shown = (line[: len(line) - len(line.lstrip())] + plain(line, LONGEST) for line in lines)
    return f"<pre>{html.escape(chr(10).join(shown))}</pre>"


def _text(text: object) -> str:
    return html.escape(plain(text, LONGEST))
