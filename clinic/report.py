"""What a measurement found, as a table on the terminal, as docs/accuracy.md and as a picture of the confusions."""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from clinic.cases import CLINIC
from clinic.figures import auroc, calibration_error, wilson

if TYPE_CHECKING:
    from clinic.accuracy import Result

DOCS = CLINIC.parent / "docs"
BARS = {  # what issue 3 asks of the reported half
    "root cause, strict": 0.92, "root cause, accepted equivalents": 0.97, "healthy called healthy": 0.99,
    "first non-finite: step": 1.0, "source line": 0.95, "operation": 0.95, "phase": 1.0, "layer": 1.0,
}  # fmt: skip


def ece(results: "Sequence[Result]") -> float:
    said = [r for r in results if r.confidence > 0]
    return calibration_error([r.confidence for r in said], [r.accepted for r in said])


def auc(results: "Sequence[Result]") -> float | None:
    said = [r for r in results if r.confidence > 0]
    return auroc([r.confidence for r in said], [r.accepted for r in said])


def figures(results: "Sequence[Result]") -> list[tuple[str, int, int]]:
    """Name, right, of how many."""
    sick = [r for r in results if r.planted != "healthy"]
    sound = [r for r in results if r.planted == "healthy"]
    found = [
        ("root cause, strict", sum(r.strict for r in sick), len(sick)),
        ("root cause, accepted equivalents", sum(r.accepted for r in sick), len(sick)),
        ("among the first three findings", sum(r.top3 for r in sick), len(sick)),
        ("healthy called healthy", sum(r.strict for r in sound), len(sound)),
    ]
    places = [_localised(r) for r in sick]
    for name in ("first non-finite: step", "phase", "layer", "operation", "source line"):
        known = [place[name] for place in places if name in place]
        found.append((name, sum(known), len(known)))
    return found


def _localised(result: "Result") -> dict[str, bool]:
    """Right or wrong, for what is known without nandoctor: the step by hooks, the rest where the author was sure."""
    first: Any = result.found.get("first_nonfinite") or {}
    labels = result.case.labels
    known: dict[str, bool] = {}
    if result.step is not None:
        known["first non-finite: step"] = first.get("step") == result.step
    for name, key in (("phase", "phase"), ("operation", "op")):
        if key in labels:
            known[name] = str(first.get(key)) in labels[key].split("|")
    if "layer" in labels:
        got = first.get("layer")
        known["layer"] = ("none" if got is None else got) in labels["layer"].split("|")
    if "line" in labels:
        lines = [n for n, text in enumerate(result.case.sick.splitlines(), 1) if labels["line"] in text]
        known["source line"] = first.get("line") in lines
    return known


def by_cause(results: "Sequence[Result]") -> list[tuple[str, int, int, int, int]]:
    """Cause, planted, strict, accepted; how often it was said at all."""
    said = Counter(r.verdict for r in results)
    planted = sorted({r.planted for r in results})
    rows = []
    for cause in planted:
        own = [r for r in results if r.planted == cause]
        rows.append((cause, len(own), sum(r.strict for r in own), sum(r.accepted for r in own), said[cause]))
    return rows


def table(results: "Sequence[Result]") -> str:
    lines = []
    for name, right, of in figures(results):
        low, high = wilson(right, of)
        share = f"{right / of:6.1%}" if of else "     -"
        lines.append(f"{name:34} {right:4}/{of:<4} {share}  [{low:.1%}, {high:.1%}]")
    said = auc(results)
    lines.append(f"{'calibration error (ECE)':34} {ece(results):.3f}")
    lines.append(f"{'AUROC of the confidence':34} {'-' if said is None else f'{said:.3f}'}")
    lines.append("")
    lines.append(f"{'cause':28} planted strict accepted precision")
    for cause, of, strict, accepted, times in by_cause(results):
        precision = f"{strict / times:.0%}" if times else "-"
        lines.append(f"{cause:28} {of:7} {strict:6} {accepted:8} {precision:>9}")
    wrong = [r for r in results if not r.accepted]
    if wrong:
        lines += ["", "wrong:"]
        lines += [f"  {r.case.id} ({r.planted}) -> {r.verdict} ({r.confidence:.2f})" for r in wrong]
    return "\n".join(lines)


def write(half: str, results: "Sequence[Result]") -> None:
    """docs/accuracy.md for the reported half, and the confusion matrix beside it."""
    if half != "reported":
        return
    from clinic.picture import confusions

    picture = DOCS / "images" / "confusions.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    confusions(results, picture)
    lines = [
        "# How often is the verdict right?", "",
        "<!-- written by `make accuracy`; what is measured and how: clinic/README.md -->", "",
        f"Measured on {len({r.case.id for r in results})} cases of the reported half of clinic/, which no threshold "
        "was chosen on (a random sample where they are fewer than it holds). Intervals are Wilson's, 95 %.", "",
        "| figure | right | of | share | interval | bar |", "| --- | --- | --- | --- | --- | --- |",
    ]  # fmt: skip
    for name, right, of in figures(results):
        low, high = wilson(right, of)
        bar = f"{BARS[name]:.0%}" if name in BARS else ""
        share = f"{right / of:.1%}" if of else "-"
        lines.append(f"| {name} | {right} | {of} | {share} | {low:.1%} to {high:.1%} | {bar} |")
    said = auc(results)
    lines.append(f"| calibration error of the confidence (ECE) | | | {ece(results):.3f} | | at most 0.05 |")
    lines.append(f"| AUROC of the confidence | | | {'-' if said is None else f'{said:.3f}'} | | at least 0.8 |")
    lines += ["", "| cause | planted | strict | accepted | precision |", "| --- | --- | --- | --- | --- |"]
    for cause, of, strict, accepted, times in by_cause(results):
        lines.append(f"| {cause} | {of} | {strict} | {accepted} | {f'{strict / times:.0%}' if times else '-'} |")
    lines += ["", "![planted causes against verdicts](images/confusions.png)", "", "Every wrong verdict:", ""]
    wrong = [r for r in results if not r.accepted]
    lines += [f"- `{r.case.id}`: {r.planted}, called {r.verdict} ({r.confidence:.0%})" for r in wrong]
    (DOCS / "accuracy.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
