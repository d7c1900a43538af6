"""Numbers and places in the words of a report."""

from ..evidence import Bad, Evidence, Operand


def num(value: float | None) -> str:
    """Three digits: 0.5, 1e-05, 8.69e+15."""
    return "?" if value is None else f"{value:.3g}"


def percent(value: float) -> str:
    return f"{100 * value:.3g} %"


def where(bad: Bad) -> str:
    """Step, layer and operation of a birth: "step 12, head (Linear), log"."""
    parts = [f"step {bad.step}"]
    if bad.layer:
        parts.append(f"{bad.layer} ({bad.module})" if bad.module else bad.layer)
    if bad.op:
        parts.append(bad.op)
    return ", ".join(parts)


def span(operand: Operand) -> str:
    return f"{operand.role} in [{num(operand.low)}, {num(operand.high)}]"


def path_of_losses(e: Evidence) -> str:
    """The last losses up to the failure: "2.3, 4.1, 960, nan"."""
    return ", ".join(num(value) for _, value in e.loss.before_failure) if e.loss else ""
