"""Verdicts that are right as well, by contract/causes.md alone. A condition of the table is measured or looked up."""

import re
from collections.abc import Callable

from clinic.cases import Case
from clinic.verify import Kept, healthy

LR = re.compile(r"^LR = ([0-9.e+-]+)$", re.MULTILINE)

Condition = Callable[[Case, dict[str, object], Kept], bool]


def always(case: Case, found: dict[str, object], kept: Kept) -> bool:
    return True


def names_lr(case: Case, found: dict[str, object], kept: Kept) -> bool:
    """The finding names the learning rate as well."""
    findings = found["findings"]
    assert isinstance(findings, list)
    first = findings[0] if findings else {}
    return any(f["cause"] == "lr-too-high" for f in findings[1:]) or "lr" in str(first.get("evidence", ""))


def a_tenth_heals(case: Case, found: dict[str, object], kept: Kept) -> bool:
    """A tenth of the lr alone makes the sick program train."""
    program = case.sick
    rates = LR.findall(program)
    if len(rates) != 1:
        return False
    tenth = LR.sub(f"LR = {float(rates[0]) / 10:g}", program)
    return healthy(kept.outcome(tenth)) == ""


EQUIVALENTS: dict[tuple[str, str], Condition] = {  # planted, said -> the condition
    ("exploding-gradients", "lr-too-high"): a_tenth_heals,
    ("lr-too-high", "unsafe-op"): names_lr,
    ("lr-too-high", "optimizer-epsilon"): lambda case, found, kept: any(w in str(case.edits) for w in ("inf", "nan")),
    ("bad-initialization", "corrupt-weights"): lambda case, found, kept: "load" not in case.sick,
    ("corrupt-weights", "bad-initialization"): lambda case, found, kept: "load" not in case.sick,
    ("bad-input-data", "unsafe-op"): always,
    ("fp16-overflow", "bad-initialization"): always,
    ("fp16-overflow", "data-outlier"): always,
    ("fp16-underflow", "optimizer-epsilon"): lambda case, found, kept: "Adam" in case.sick and ".half()" in case.sick,
    ("dead-relu", "loss-plateau"): always,
    ("vanishing-gradients", "loss-plateau"): always,
    ("loss-oscillation", "loss-plateau"): always,
    ("masked-softmax", "fp16-overflow"): lambda case, found, kept: "float16" in case.sick,
    ("batchnorm-tiny-batch", "unsafe-op"): lambda case, found, kept: "std(" in case.sick or "var(" in case.sick,
    ("bad-labels", "unsafe-op"): always,
}


def right(case: Case, planted: str, found: dict[str, object], kept: Kept) -> bool:
    """Whether the verdict is the planted cause or an accepted equivalent of it."""
    verdict = str(found["verdict"])
    if verdict == planted:
        return True
    condition = EQUIVALENTS.get((planted, verdict))
    return condition is not None and condition(case, found, kept)
