"""The order of GradScaler calls, read as an automaton: scale, unscale_ (once), step, update (E6)."""

from dataclasses import dataclass

import numpy as np

from ..trace.schema import SCALED
from ..trace.trace import Trace

SCALED_BY = 2.0  # times: a scale that counts for something
FEWEST = 5  # steps
READ_CALLS = 20_000  # calls that are looked at: a misuse in the loop shows in its first rounds


@dataclass(frozen=True)
class ScalerCalls:
    count: int
    unscaled_twice: (
        int | None
    )  # step of the first unscale_ after an unscale_ without an update between, same optimizers
    stepped_without_update: int | None  # step of the first scaler.step after as many steps without an update
    updates: int
    steps: int
    scaled: int  # scale() calls
    stepped_scaled: int  # optimizer steps that used gradients still multiplied by the loss scale
    unscaled_backwards: float | None  # share of the backward calls on a loss as large as before scaling
    seen_steps: int  # optimizer steps with gradients
    # gradients are so many times smaller than what reached the layers, and the loss scale: medians over the steps
    shrunk: tuple[float, float] | None = None
    beside: int = 0  # optimizer steps beyond the calls of unscale_, where several optimizers share scaled losses


def gather(trace: Trace) -> ScalerCalls | None:
    rows = trace.rows("scaler")
    if len(rows) == 0:
        return None
    rows = rows[:READ_CALLS]
    names = {number: subject.name.rpartition(".")[2] for number, subject in trace.subjects.items()}
    calls = [(int(row["step"]), names.get(int(row["subject"]), "")) for row in rows]
    optimizers = max(1, len({str(note.get("id")) for note in trace.notes_of("optimizer")}))
    twice = missing = None
    unscaled = stepped = 0
    for step, name in calls:
        if name == "update":
            unscaled = stepped = 0
        elif name == "unscale_":
            unscaled += 1
            if unscaled > optimizers and twice is None:
                twice = step
        elif name == "step":
            stepped += 1
            if stepped > optimizers and missing is None:
                missing = step
    found = [name for _, name in calls]
    used = trace.rows("parameter_gradient")
    done = trace.rows("step")
    done = done[done["order"] <= rows["order"][-1]]
    done_steps = done["step"][done["value"] != 0]
    scaled_steps = np.unique(used["step"][(used["flags"] & SCALED) != 0])
    return ScalerCalls(
        count=len(rows),
        unscaled_twice=twice,
        stepped_without_update=missing,
        updates=found.count("update"),
        steps=found.count("step"),
        scaled=found.count("scale"),
        stepped_scaled=int(np.isin(scaled_steps, done_steps).sum()),
        unscaled_backwards=_unscaled(trace),
        seen_steps=len(np.unique(used["step"])),
        shrunk=_shrunk(trace, {step: float(row["value"]) for row, (step, name) in zip(rows, calls, strict=True)
                               if name == "scale"}),
        beside=max(0, len(done) - found.count("unscale_")) if optimizers > 1 and _all_scaled(trace) else 0,
    )


def _shrunk(trace: Trace, scales: dict[int, float]) -> tuple[float, float] | None:
    """(times, loss scale), medians over the steps: how many times smaller the gradients that an optimizer used are than
    what backward brought, unscaled and clipped.

    A bias' gradient is the sum of what reached its layer's output: of the same size, but where terms cancel, as they do
    before a normalisation. Of a step, the layer counts that says the least.
    """
    biases = {
        number: subject.name.rpartition(".")[0] for number, subject in trace.subjects.items()
        if subject.role == "parameter" and subject.name.rpartition(".")[2] == "bias"
    }  # fmt: skip
    used, reached = trace.rows("parameter_gradient"), trace.rows("output_gradient")
    used = used[np.isin(used["subject"], list(biases)) & ((used["flags"] & SCALED) == 0)]
    names = {number: subject.name for number, subject in trace.subjects.items()}
    brought: dict[tuple[int, str], float] = {}
    for row in reached[(reached["flags"] & SCALED) != 0][:READ_CALLS]:
        key = int(row["step"]), names.get(int(row["subject"]), "")
        brought[key] = brought.get(key, 0.0) + float(row["norm"]) ** 2
    clips = _clipped_by(trace)
    least: dict[int, float] = {}
    for row in used[:READ_CALLS]:
        step, norm = int(row["step"]), float(row["norm"])
        square = brought.get((step, biases[int(row["subject"])]), 0.0)
        scale = scales.get(step, 0.0)
        if scale > 1 and norm > 0 and 0 < square < np.inf and norm < np.inf:
            times = np.sqrt(square) / scale * clips.get(step, 1.0) / norm
            least[step] = min(least.get(step, np.inf), times)
    found = [(times, scales[step]) for step, times in least.items() if np.isfinite(times)]
    if len(found) < FEWEST:
        return None
    times, scale = np.median(np.array(found), axis=0)
    return float(times), float(scale)


def _clipped_by(trace: Trace) -> dict[int, float]:
    """step -> what a clip by norm multiplied the gradients by; NaN where that is not known."""
    return {
        int(row["step"]): min(1.0, float(row["max_norm"]) / float(row["value"])) if row["value"] > 0 else np.nan
        for row in trace.rows("clip")
    }


def _all_scaled(trace: Trace) -> bool:
    """Every backward that was seen before the first NaN was called on a loss that was scaled."""
    given, losses = trace.rows("backward")["value"], trace.rows("loss")["value"]
    if len(given) != len(losses) or not len(losses) or not np.isfinite(losses[0]) or losses[0] == 0:
        return False
    stop = int(np.argmax(~np.isfinite(losses))) if not np.isfinite(losses).all() else len(losses)
    return bool((np.abs(given[:stop]) > SCALED_BY * np.abs(losses[:stop])).all())


def _unscaled(trace: Trace) -> float | None:
    """backward was given the loss itself while the scale was above 1. A row of each kind belongs to one call."""
    given, losses = trace.rows("backward")["value"], trace.rows("loss")["value"]
    scales = trace.rows("scaler")["value"]
    usable = scales[np.isfinite(scales)]
    if len(given) == 0 or len(given) != len(losses) or len(usable) == 0 or usable.min() <= 2:
        return None
    finite = np.isfinite(losses)
    return float((given[finite] == losses[finite]).mean()) if finite.any() else None
