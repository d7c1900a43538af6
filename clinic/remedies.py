"""Does the first remedy cure? `make remedies`, or `python -m clinic.remedies [--half tune] [--sample N] [PART]`.

Every sick program that counts is recorded and diagnosed as for `make accuracy`; what `nandoctor diagnose --patch` would
change is changed in the program, which then runs without nandoctor. It is cured if it would no longer count as failing
beside its healthy twin (clinic/verify.py). A verdict for which no line could be changed counts as not cured.
"""

import sys
import tempfile
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from clinic import recorded
from clinic.accuracy import asked_for, options
from clinic.cases import CLINIC, Case, digest
from clinic.disguise import disguised
from clinic.figures import wilson
from clinic.verify import LOST, Kept, plain

DOCUMENT = CLINIC.parent / "docs" / "remedies.md"
BAR = 0.85


@dataclass(frozen=True)
class Tried:
    case: Case
    verdict: str
    diff: str
    cured: bool
    why: str


def patched(program: str) -> tuple[str, str, str]:
    """(verdict, diff, the disguised program with the patch applied); no diff where nothing could be changed."""
    from nandoctor.errors import UserError
    from nandoctor.notebook import diagnose
    from nandoctor.patching.patch import diff, edited

    trace = recorded.trace(program)
    if trace is None:
        return "unknown", "", ""
    text = disguised(program, int(digest(program), 16))
    try:
        diagnosis = diagnose(trace)
    except UserError:
        return "unknown", "", ""
    with tempfile.TemporaryDirectory() as folder:
        name = next(word for word in diagnosis.run.command.split() if word.endswith(".py"))
        Path(folder, name).write_text(text, encoding="utf-8")
        sources, _ = edited(diagnosis, Path(folder))
        changes = "".join(diff(source) for source in sources)
        changed = "\n".join(sources[0].changed()) + "\n" if sources else ""
    return diagnosis.verdict, changes, changed


def attempt(case: Case, kept: Kept) -> Tried:
    verdict, changes, program = patched(case.sick)
    if not changes:
        return Tried(case, verdict, "", False, "no line could be changed")
    run, twin = plain(program), kept.outcome(case.twin)
    if run.broke:
        return Tried(case, verdict, changes, False, f"still fails: {run.bad or run.error or 'no final line'}")
    assert run.final is not None and twin.final is not None and twin.first is not None
    progress = abs(twin.first - (twin.last if twin.last is not None else twin.final))
    cured = run.final - twin.final <= LOST * progress
    return Tried(case, verdict, changes, cured, "" if cured else f"final {run.final:.4g}, the twin's {twin.final:.4g}")


def tried(chosen: list[Case], jobs: int) -> list[Tried]:
    kept, results = Kept(), []
    with ThreadPoolExecutor(jobs) as pool:
        for number, result in enumerate(pool.map(lambda case: attempt(case, kept), chosen), 1):
            results.append(result)
            cured = sum(r.cured for r in results)
            print(f"\r{number}/{len(chosen)} patched and run, {cured} cured ", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return results


def table(results: list[Tried], half: str) -> str:
    cured = sum(r.cured for r in results)
    low, high = wilson(cured, len(results))
    by_cause: dict[str, list[Tried]] = defaultdict(list)
    for result in results:
        by_cause[result.case.cause].append(result)
    lines = [
        "# Does the first remedy cure?", "",
        f"`make remedies`: what `nandoctor diagnose --patch` changes, applied to {len(results)} sick programs of the "
        f"{half} half of clinic/, which then run without nandoctor. Cured: it no longer counts as failing beside its "
        "healthy twin.", "",
        f"**{cured} of {len(results)} = {cured / len(results):.1%}** [{low:.1%}, {high:.1%}] (bar {BAR:.0%}).", "",
        "| planted | cured | of | not cured |", "| --- | --- | --- | --- |",
    ]  # fmt: skip
    for cause, members in sorted(by_cause.items()):
        reasons = Counter(
            f"{r.verdict}: {r.why.partition(':')[0].partition(',')[0]}" if r.verdict != cause
            else r.why.partition(":")[0].split(" -")[0].partition(",")[0]
            for r in members if not r.cured
        )  # fmt: skip
        said = "; ".join(f"{count} x {reason}" for reason, count in reasons.most_common(4))
        lines.append(f"| {cause} | {sum(r.cured for r in members)} | {len(members)} | {said} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = options(__doc__.splitlines()[0])
    parser.add_argument("--show", action="store_true", help="print each diff and what came of it")
    arguments = parser.parse_args()
    sick = [case for case in asked_for(arguments) if case.cause != "healthy"]
    if not sick:
        parser.error("no case of that name counts")
    results = tried(sick, arguments.jobs)
    if arguments.show:
        for r in results:
            print(f"{'cured' if r.cured else 'NOT  '} {r.case.id} {r.verdict} {r.why}\n{r.diff}")
    text = table(results, arguments.half)
    print(text)
    if not arguments.part:
        DOCUMENT.write_text(text)
    return int(sum(r.cured for r in results) < BAR * len(results))


if __name__ == "__main__":
    sys.exit(main())
