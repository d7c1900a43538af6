"""What a model is given: NaN and Inf replaced, samples and entries that are far too loud brought back to the usual."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import dataloader

from ..causes import treatments
from ..evidence.data import VERY_LOUD
from ..recording.stats import detach, measurable
from .applied import Applied, Back, Case, Gradients
from .hooks import on_inputs
from .ledger import Ledger
from .vitals import Series

LOUD = 10.0  # times the median norm of samples; data that people normalise stay within 4
EARLY = 100  # steps that are given up to begin again
FEW = 0.5  # of a sample's entries: then those entries are wrong, not the sample's scale
SKEWED = 3.0  # times the robust spread: an exponential's standard deviation is 1.4 of it, a log-normal's 2.5
RAW = 30.0  # a column this far from 0 with a spread of its own was never normalised


def replace(case: Case) -> Applied | None:
    """NaN and Inf in inputs: each becomes the mean of its column in the batch, 0 where it has none."""
    bad, data = case.evidence.bad, case.evidence.data
    given = case.cause == "bad-input-data" and data is not None and data.model_inputs_bad
    if bad is None or bad.phase not in ("input", "forward") and not given:
        return None  # labels that are out of range, or all ignored, are no NaN to replace
    stops = [on_inputs(case.run, without_nonfinite), on_batches(batch_without_nonfinite)]
    return Applied(
        treatments.DATA, "NaN in inputs becomes the mean of its column in the batch, Inf its end; a sample whose "
        "target is not finite is left out of its batch",
        "remove --active; to keep it, repair the data", {"kind": "nan-to-num", "tensor": bad.tensor if bad else None},
        stop=lambda: both(stops),
    )  # fmt: skip


def both(stops: list[Callable[[], None]]) -> None:
    for stop in stops:
        stop()


def without_nonfinite(tensor: Tensor) -> Tensor | None:
    if not measurable(tensor):
        return None
    wrong = ~torch.isfinite(tensor)
    if not bool(wrong.any()):
        return None
    if tensor.dim() < 2 or tensor.shape[0] < 2:
        return tensor.masked_fill(wrong, 0.0)
    kept = tensor.masked_fill(wrong, 0.0)
    counts = (~wrong).sum(0).clamp_min(1)
    means = (kept.double().sum(0) / counts).to(tensor.dtype)
    mended = torch.where(wrong, means.expand_as(tensor), tensor)
    ends = torch.where(wrong, means.expand_as(tensor), kept)  # Inf is more than anything else in its column, no mean
    mended = torch.where(tensor == float("inf"), ends.amax(0).expand_as(tensor), mended)
    return torch.where(tensor == float("-inf"), ends.amin(0).expand_as(tensor), mended)


def batch_without_nonfinite(batch: Any) -> Any:
    """A batch of a DataLoader: samples whose target is not finite go, the inputs of the others are mended."""
    flat = list(batch) if type(batch) in (list, tuple) else None
    if flat is not None and len(flat) >= 2 and isinstance(flat[-1], Tensor) and measurable(flat[-1]):
        target = flat[-1]
        size = target.shape[0] if target.dim() else 0
        good = torch.isfinite(target.reshape(size, -1)).all(1) if size else None
        same = all(isinstance(t, Tensor) and t.dim() and t.shape[0] == size for t in flat)
        if good is not None and same and bool(good.any()) and not bool(good.all()):
            batch = type(batch)(t[good] for t in flat)
    return mapped(batch, without_nonfinite)


def mapped(value: Any, change: Callable[[Tensor], Tensor | None]) -> Any:
    """The same containers with changed tensors in them; what is not changed is handed on as it is."""
    if isinstance(value, Tensor):
        found = change(value)
        return value if found is None else found
    if type(value) is dict:
        return {key: mapped(item, change) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(mapped(item, change) for item in value)
    if is_dataclass(value) or not isinstance(value, tuple):
        return value
    return type(value)(*(mapped(item, change) for item in value))


def on_batches(change: Callable[[Any], Any]) -> Callable[[], None]:
    """Every batch that a DataLoader hands out passes through."""

    place: Any = dataloader._BaseDataLoaderIter
    plain = place.__next__

    def draw(iterator: Any) -> Any:
        batch = plain(iterator)
        with torch.no_grad():
            return change(batch)

    place.__next__ = draw

    def stop() -> None:
        place.__next__ = plain

    return stop


# --- loud data -------------------------------------------------------------------------------------------------
@dataclass
class Scales:
    """What is usual for one input of one module: learned from its first batches, then fixed."""

    norm: float | None = None  # of a sample
    shift: Tensor | None = None  # of raw columns
    scale: Tensor | None = None


@dataclass
class Tamer:
    known: dict[tuple[Hashable, str], Scales] = field(default_factory=dict)
    loud_at: int = -1  # step

    def __call__(self, tensor: Tensor, key: tuple[Hashable, str]) -> Tensor | None:
        if not measurable(tensor) or tensor.dim() < 1 or tensor.shape[0] < 1:
            return None
        fixed = without_nonfinite(tensor)
        x = tensor if fixed is None else fixed
        scales = self.known.get(key)
        if scales is None:
            if tensor.shape[0] < 2:
                return fixed
            scales = self.known[key] = learn(x)
        tamed = apart(x, scales)
        return fixed if tamed is None else tamed


def alike(module: nn.Module) -> Hashable:
    """A target network, an average of the weights: what is given to a copy is measured by the same scales."""
    return type(module), tuple(parameter.shape for parameter in module.parameters())


class Usual:
    """Samples of a batch of a DataLoader, inputs or targets, that are hundreds of times louder than the others."""

    def __init__(self) -> None:
        self.norms: dict[tuple[int, ...], float] = {}  # by the shape of a sample

    def __call__(self, tensor: Tensor) -> Tensor | None:
        if not measurable(tensor) or tensor.dim() < 1 or tensor.shape[0] < 1:
            return None
        rows = rows_of(tensor)
        norms, shape = rows.norm(dim=1), tuple(tensor.shape[1:])
        if shape not in self.norms and tensor.shape[0] > 1:
            self.norms[shape] = float(norms.median())
        usual = self.norms.get(shape, 0.0)
        loud = torch.isfinite(norms) & (norms > VERY_LOUD * usual)
        if usual <= 0 or not bool(loud.any()):
            return None
        factor = torch.where(loud, usual / norms.clamp_min(usual), 1.0)
        return (rows * factor[:, None]).reshape(tensor.shape).to(tensor.dtype)


def learn(x: Tensor) -> Scales:
    rows = rows_of(x)
    norms = rows.norm(dim=1)
    scales = Scales(norm=float(norms.median()))
    columns = x.double() if x.dim() == 2 else x.double().reshape(1, -1).t()
    middle = columns.median(0).values
    spread = (columns - middle).abs().median(0).values * 1.4826
    deviation = torch.where(spread > 0, spread, columns.std(0, unbiased=False))
    size = columns.abs().median(0).values
    raw = (size > RAW) | (deviation > RAW)
    if bool(raw.any()):
        usual = columns.std(0, unbiased=False)
        clean = usual < SKEWED * deviation  # a long tail, no outlier: then as everybody normalises
        middle, deviation = torch.where(clean, columns.mean(0), middle), torch.where(clean, usual, deviation)
        scales.shift = torch.where(raw, middle, 0.0).to(x.dtype)
        scales.scale = torch.where(raw & (deviation > 0), deviation, 1.0).to(x.dtype)
        scales.norm = float(rows_of(normalised(x, scales)).norm(dim=1).median())
    return scales


def rows_of(x: Tensor) -> Tensor:
    return x.double().reshape(x.shape[0], -1)


def normalised(x: Tensor, scales: Scales) -> Tensor:
    return x if scales.scale is None or scales.shift is None else (x - scales.shift) / scales.scale


def apart(x: Tensor, scales: Scales) -> Tensor | None:
    """Loud samples: a few loud entries are clamped to what the others reach, a loud sample is scaled down."""
    y = normalised(x, scales)
    rows = rows_of(y)
    norms = rows.norm(dim=1)
    usual = scales.norm or 0.0
    if usual <= 0:
        return None if y is x else y
    loud = norms > LOUD * usual
    if not bool(loud.any()):
        return None if y is x else y
    rows = rows.clone()
    quiet = rows[~loud]
    limit = float(quiet.abs().max()) if len(quiet) else usual
    for place in torch.nonzero(loud).flatten().tolist():
        row = rows[place]
        entries = row.abs() > LOUD * limit
        if 0 < float(entries.double().mean()) < FEW and len(quiet):
            row = row.clamp(-limit, limit)
        norm = float(row.norm())
        rows[place] = row * (usual / norm) if norm > LOUD * usual else row
    return rows.reshape(y.shape).to(x.dtype)


def back_to(case: Case) -> Back:
    """Where every batch is as loud as the others, no later weights are worth going back to."""
    data = case.evidence.data
    alike = data is None or data.loudest_ratio is None or data.loudest_ratio < LOUD
    return "start" if alike and case.run.recorder.step < EARLY else "onset"


def tame(case: Case) -> Applied | None:
    tamer, quiet, ledger = Tamer(), Series(), Ledger(case.run.recorder)

    def change(tensor: Tensor, module: nn.Module, path: str) -> Tensor | None:
        tamed = tamer(detach(tensor), (alike(module), path))
        if tamed is not None and float(tamed.abs().max()) * VERY_LOUD < float(tensor.abs().max()):
            tamer.loud_at = case.run.recorder.step
        return tamed

    def gradients(found: Gradients) -> bool:
        """The last resort: the loss was computed with what the model was kept from, as its target."""
        usual = quiet.middle()
        if tamer.loud_at != case.run.recorder.step:
            quiet.add(found.total)
        elif usual is not None and not found.total <= LOUD * usual:
            what = "this update is left out"
            ledger.write("once", treatments.DATA, case.cause, what, "a loud sample shows in its gradients all the same")
            return True
        return False

    first, usual = on_inputs(case.run, change, with_place=True), Usual()
    stops = [first, on_batches(lambda batch: mapped(batch, usual))]  # what is also the target must not stay loud
    data = case.evidence.data
    return Applied(
        treatments.DATA, "samples more than 10 times louder than usual are brought down to it, columns that were never "
        "normalised are",
        "remove --active; to keep it, normalise or clean the data", {"kind": "normalise"}, back=back_to(case),
        unharmed=data.first_loud if data else None, upstream="data-outlier",
        gradients=gradients, stop=lambda: both(stops),
    )  # fmt: skip
