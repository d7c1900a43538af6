"""How the program is written, and what it runs on: what the code line of a remedy, and the checklist, must know."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..trace.trace import Rows, Trace
from . import fields
from .series import median

VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,40}")
EPOCHS = re.compile(r"-{1,2}(?:num|max|n|total)?[-_]?(?:train)?[-_]?epochs?(?:=(\d{1,6}))?", re.IGNORECASE)
KEPT = ("momentum", "nesterov", "alpha", "betas", "eps", "weight_decay", "amsgrad")  # of a constructor's arguments
DEFAULTS: dict[str, Any] = {"momentum": 0, "nesterov": False, "alpha": 0.99, "betas": [0.9, 0.999], "eps": 1e-8,
                            "weight_decay": 0, "amsgrad": False}  # fmt: skip
OTHERWISE: dict[str, dict[str, Any]] = {"AdamW": {"weight_decay": 0.01}, "Adagrad": {"eps": 1e-10}}
RISES = 1.1  # a first lr this far below the highest: it was warmed up
PACKAGES = {  # attribute of Style -> modules or files that tell it
    "accelerate": ("accelerate", "/accelerate/"),
    "lightning": ("lightning", "pytorch_lightning", "/lightning/pytorch/", "/pytorch_lightning/"),
    "hf_trainer": ("transformers.trainer", "/transformers/trainer.py"),
}


@dataclass(frozen=True)
class Style:
    """None = the trace cannot tell."""

    accelerate: bool
    scaler: bool
    clips: bool  # the run clips gradients already
    schedule: bool  # the learning rate moves
    attention: bool
    lightning: bool = False
    hf_trainer: bool = False
    unscales: bool = False  # the program calls unscale_ itself
    model: str = "model"  # the variable that holds the only model
    constructor: str = ""  # of the optimizer: torch.optim.SGD
    arguments: str = ""  # of it, besides parameters and lr, where they are not the defaults: ", momentum=0.9"
    groups: int = 1
    batch: int | None = None  # size of a training batch
    world: int = 1  # processes
    epochs: int | None = None  # of the whole run: told by the command, or seen in a run that ended by itself
    epoch_steps: int | None = None  # steps of an epoch
    total: int | None = None  # steps of the whole run, likewise
    warm_up: int | None = None  # steps over which the learning rate rose at the start; 0: it began at its highest
    guarded: bool | None = None  # a non-finite loss was kept from backward; None: there was none
    saves: int = 0  # calls of torch.save
    torch: str | None = None
    cuda: str | None = None  # that torch was built for; None: for none


def gather(trace: Trace) -> Style:
    used = {name for name, signs in PACKAGES.items() if _seen(trace, signs)}
    rates = trace.rows("learning_rate")
    epochs, epoch_steps, total = _length(trace)
    constructor, arguments, groups = _optimizer(trace)
    return Style(
        accelerate="accelerate" in used,
        lightning="lightning" in used,
        hf_trainer="hf_trainer" in used,
        scaler=len(trace.rows("scaler")) > 0,
        unscales=_unscales(trace),
        clips=len(trace.rows("clip")) > 0,
        schedule=any(len(np.unique(rates["value"][mine])) > 1 for mine in _by_subject(rates)),
        attention=any("ttention" in (subject.module or "") + subject.name for subject in trace.subjects.values()),
        model=_model(trace),
        constructor=constructor,
        arguments=arguments,
        groups=groups,
        batch=_batch(trace),
        world=max(1, fields.whole(trace.header, "world") or 1),
        epochs=epochs,
        epoch_steps=epoch_steps,
        total=total,
        warm_up=_warm_up(rates),
        guarded=_guarded(trace),
        saves=_saves(trace),
        torch=fields.words(trace.header, "torch"),
        cuda=fields.words(trace.header, "cuda"),
    )


def _seen(trace: Trace, signs: tuple[str, ...]) -> bool:
    """In the packages that the header names, in the command, in the files of notes, in the optimizer's class."""
    said = {str(word) for word in fields.items(trace.header, "packages")}
    said |= {fields.words(note, "class") or "" for note in trace.notes_of("optimizer")}
    said |= {f"{word} " for word in _command(trace)[:2]}  # accelerate launch ...
    heads = tuple(word for sign in signs if "/" not in sign for word in (sign, f"{sign} "))
    if any(word in heads or word.startswith(tuple(f"{sign}." for sign in signs)) for word in said):
        return True
    return any(sign in file for sign in signs if "/" in sign for file in _files(trace))


def _files(trace: Trace) -> Iterator[str]:
    for note in trace.notes_of("incident"):
        yield str(fields.words(fields.mapping(note, "place"), "library_file")).replace("\\", "/")
    for note in trace.notes_of("exception"):
        for frame in fields.items(note, "frames"):
            if isinstance(frame, (list, tuple)) and frame:
                yield str(frame[0]).replace("\\", "/")


def _command(trace: Trace) -> list[str]:
    command = trace.header.get("command")
    return [str(word) for word in command] if isinstance(command, (list, tuple)) else str(command or "").split()


def _by_subject(rows: Rows) -> Iterator[Any]:
    subjects = rows["subject"]
    for subject in np.unique(subjects):
        yield subjects == subject


def _unscales(trace: Trace) -> bool:
    """scaler.step calls unscale_ itself; any other was the program's."""
    subjects = trace.rows("scaler")["subject"][:10_000]
    unscale, step = (
        [s.id for s in trace.subjects.values() if s.name.rpartition(".")[2] == name] for name in ("unscale_", "step")
    )
    called = np.isin(subjects, unscale)
    after_step = np.concatenate([[False], np.isin(subjects, step)[:-1]]) if len(subjects) else called
    return bool((called & ~after_step).any())


def _model(trace: Trace) -> str:
    names = {fields.words(note, "name") or "" for note in trace.notes_of("model") if fields.items(note, "parameters")}
    name = names.pop() if len(names) == 1 else ""
    return name if VARIABLE.fullmatch(name) else "model"


def _optimizer(trace: Trace) -> tuple[str, str, int]:
    """(constructor, its arguments, groups) of the only optimizer."""
    notes = trace.notes_of("optimizer")
    if len({str(note.get("id")) for note in notes}) != 1:
        return "", "", 1
    known = [group for group in fields.items(notes[0], "groups") if hasattr(group, "get")]
    name = fields.words(notes[0], "class") or ""
    short = name.rpartition(".")[2]
    constructor = f"torch.optim.{short}" if name.startswith("torch.optim.") else short
    group = known[0] if known else {}
    defaults = {**DEFAULTS, **OTHERWISE.get(short, {})}
    told = [(key, group[key]) for key in KEPT if key in group and _plain(group[key]) not in (None, defaults[key])]
    arguments = "".join(f", {key}={_written(value)}" for key, value in told)
    return (constructor if VARIABLE.fullmatch(constructor) else ""), arguments, max(1, len(known))


def _plain(value: Any) -> Any:
    """A number, truth value or short list of numbers; None for what no constructor takes."""
    if isinstance(value, (list, tuple)):
        return list(value) if len(value) <= 3 and all(isinstance(v, (int, float)) for v in value) else None
    return value if isinstance(value, (int, float)) else None


def _written(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return f"({', '.join(map(_written, value))})"
    return str(value) if isinstance(value, bool) else f"{value:.6g}"


def _batch(trace: Trace) -> int | None:
    """The usual first dimension of what a loader gave, where its tensors agree about it; else of what the model got."""
    for kinds in (("batch", "labels"), ("input",)):
        sizes = []
        for kind in kinds:
            rows = trace.rows(kind)
            shapes = rows["shape"][rows["mode"] == 0]
            subjects = rows["subject"][rows["mode"] == 0]
            for subject in np.unique(subjects):
                known = [trace.shapes.get(int(s), ()) for s in shapes[subjects == subject][:200]]
                sizes.append(median(np.array([float(shape[0]) for shape in known if shape])))
        found = {int(size) for size in sizes if size is not None}
        if found:
            return found.pop() if len(found) == 1 else None
    return None


def _length(trace: Trace) -> tuple[int | None, int | None, int | None]:
    """(epochs, steps of an epoch, steps) of the whole run."""
    counted = trace.rows("step")["epoch"]
    counted = counted[counted >= 0]
    seen = int(counted.max()) + 1 if len(counted) else 0
    per_epoch = np.bincount(counted, minlength=seen) if 0 < seen <= 1_000_000 else np.zeros(0, np.int64)
    whole = [int(count) for count in per_epoch[:-1] if count > 0]
    epoch_steps = int(np.median(whole)) if whole else None
    planned = _planned(trace)
    if fields.whole(trace.end, "exit_code") == 0 and not trace.alive and not _broken_off(trace):
        return (seen or planned), (epoch_steps or (trace.steps if seen == 1 else None)), trace.steps or None
    return planned, epoch_steps, (planned * epoch_steps if planned and epoch_steps else None)


def _broken_off(trace: Trace) -> bool:
    """It left its loop at the first NaN, and ended well: what was still to come is not known."""
    steps = [fields.whole(note, "step") for note in trace.notes_of("incident") if fields.words(note, "mode") != "eval"]
    return bool(steps) and trace.steps <= (steps[0] or 0) + 1


def _planned(trace: Trace) -> int | None:
    words = _command(trace)
    for word, following in zip(words, [*words[1:], ""], strict=False):
        match = EPOCHS.fullmatch(word)
        number = (match[1] or following) if match else ""
        if number.isascii() and number.isdigit() and 0 < len(number) <= 6 and int(number) > 0:
            return int(number)
    return None


def _warm_up(rates: Rows) -> int | None:
    """By the group with the highest rate."""
    best: tuple[float, int] | None = None
    for mine in _by_subject(rates):
        values, steps = rates["value"][mine], rates["step"][mine]
        finite = np.isfinite(values)
        if not finite.any():
            continue
        values, steps = values[finite], steps[finite]
        peak = int(np.argmax(values))
        rose = int(steps[peak]) if values[0] < values[peak] / RISES else 0
        if best is None or values[peak] > best[0]:
            best = (float(values[peak]), rose)
    return None if best is None else best[1]


def _guarded(trace: Trace) -> bool | None:
    seen = any(
        fields.words(note, "alarm") == "loss" and fields.words(note, "mode") != "eval"
        for note in trace.notes_of("incident")
    )
    if not seen:
        return None
    losses = trace.rows("loss")
    return bool(np.isfinite(losses["value"][losses["mode"] == 0]).all())


def _saves(trace: Trace) -> int:
    saves = [subject.id for subject in trace.subjects.values() if subject.name == "save"]
    return int(np.isin(trace.rows("checkpoint")["subject"], saves).sum())
