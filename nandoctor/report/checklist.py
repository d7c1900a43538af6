"""The documents' checklist, filled in from the trace. What the trace cannot tell is left out, not guessed."""

from collections.abc import Iterator
from dataclasses import dataclass

from nandoctor.causes.wording import num, percent
from nandoctor.evidence import Evidence

COLUMNS, LINES = 100, 3
CLIP = "clip at norm 1.0"


@dataclass(frozen=True)
class Item:
    """One question of the checklists with this run's answer."""

    name: str
    answer: str
    asks: str  # what the documents want
    sources: tuple[tuple[str, str], ...]  # (document, words of its list)


def items(e: Evidence) -> tuple[Item, ...]:
    """The most asked for first."""
    return tuple(_all(e))


def _all(e: Evidence) -> Iterator[Item]:
    optimizer, gradients, data = e.optimizer, e.gradients, e.data
    guide, tutorial = "nan-guide", "stability-guide"
    if e.steps and gradients is not None:
        cut = f"{num(gradients.max_norm)}, cut {percent(round(gradients.clipped_share, 3))} of the steps"
        answer = f"at {cut}" if e.style.clips and gradients.max_norm is not None else "yes" if e.style.clips else "no"
        yield Item("clipping", answer, CLIP, ((tutorial, "clipping on"), (guide, "clipping on")))
    if e.style.warm_up is not None:
        answer = f"{e.style.warm_up} steps" if e.style.warm_up else "no"
        yield Item("warm-up", answer, "5-10 % of all steps", ((tutorial, "warm-up"),))
    if e.precision.float16 or e.precision.autocast == "float16":
        answer = "yes" if e.precision.scaler else "no"
        yield Item("GradScaler", answer, "mixed precision only with GradScaler", ((tutorial, "AMP with GradScaler"),))
    if e.style.guarded is not None:
        answer = "yes" if e.style.guarded else "no, backward was called on it"
        yield Item("NaN guard", answer, "NaN detection on", ((tutorial, "NaN detection"),))
    if e.style.saves:
        yield Item("checkpoints", f"{e.style.saves} saved", "saved", ((tutorial, "checkpoints saved"),))
    elif e.steps and not e.style.hf_trainer:  # which saves by other means
        yield Item("checkpoints", "none by torch.save", "saved", ((tutorial, "checkpoints saved"),))
    if gradients is not None and gradients.pre_median is not None:
        answer = f"usually {num(gradients.pre_median)}, at most {num(gradients.peak)}"
        yield Item("gradient norm", answer, "watched, steady, below 1.0", (
            (tutorial, "gradient norm watched"), (tutorial, "watch loss and gradient norm live")))  # fmt: skip
    if optimizer is not None and optimizer.lr is not None:
        answer = _schedule(e)
        yield Item("schedule", answer, "one that decays; lr 5e-5 or lower", (
            (tutorial, "schedule set"), (guide, "learning rate (5e-5 or lower)")))  # fmt: skip
    if e.style.batch is not None:
        asks = "larger if memory allows (monash-stability: smaller)"
        yield Item("batch size", str(e.style.batch), asks, ((guide, "larger batch if memory allows"),))
    precision = _precision(e)
    if precision:
        yield Item("precision", precision, "mixed precision off until training is stable", (
            (guide, "mixed precision off"),))  # fmt: skip
    if data is not None and data.batches:
        yield Item("data", _data(e), "free of outliers", ((guide, "data free of outliers"),))
    if optimizer is not None and optimizer.name != "optimizer":
        answer = f"{optimizer.name}{_settings(e)}"
        yield Item("optimizer", answer, "AdamW, weight_decay 1e-4, eps 1e-8", (
            (guide, "more conservative optimizer settings"),))  # fmt: skip


def _schedule(e: Evidence) -> str:
    optimizer = e.optimizer
    if optimizer is None or optimizer.lr is None:
        return "no"
    if not e.style.schedule:
        return f"no, lr {num(optimizer.lr)}"
    highest = f", at most {num(optimizer.lr_peak)}" if optimizer.lr_peak is not None else ""
    return f"lr begins at {num(optimizer.lr_first)}{highest}"


def _precision(e: Evidence) -> str:
    if e.precision.autocast:
        return f"{e.precision.autocast} autocast"
    half = [name for name, used in (("float16", e.precision.float16), ("bfloat16", e.precision.bfloat16)) if used]
    if half:
        return " and ".join(half)
    return "float32" if e.activations is not None else ""


def _data(e: Evidence) -> str:
    data = e.data
    if data is None:
        return ""
    if data.bad_batches:
        return f"{data.bad_batches} of {data.batches} tensors hold NaN or Inf"
    loud = f", loudest {num(data.loudest_ratio)} times the usual" if data.loudest_ratio is not None else ""
    return f"finite{loud}"


def _settings(e: Evidence) -> str:
    told = e.optimizer.settings if e.optimizer else {}
    return "".join(f", {key} {num(told[key])}" for key in ("momentum", "weight_decay", "eps") if told.get(key))


def short(e: Evidence) -> list[str]:
    """At most three lines; what does not fit is left out from the end."""
    lines = ["Checklist:"]
    for number, item in enumerate(items(e)):
        said = f"{item.name} {item.answer}".replace("\n", " ")
        joint = " " if number == 0 else " · "
        if len(lines[-1]) + len(joint) + len(said) <= COLUMNS - 2:
            lines[-1] += joint + said
        elif len(lines) < LINES and len(said) <= COLUMNS - 4:
            lines[-1] += " ·"
            lines.append(f"  {said}")
    return lines if len(lines[0]) > len("Checklist:") else []


def full(e: Evidence) -> list[str]:
    """Every answer beside what the documents ask for."""
    return [
        f"{item.name}: {item.answer} [{', '.join(dict.fromkeys(source for source, _ in item.sources))}: {item.asks}]"
        for item in items(e)
    ]
