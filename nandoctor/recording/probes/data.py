"""Batches drawn from a DataLoader: every tensor inside them, and the epochs."""

from typing import Any

from torch import Tensor
from torch.utils.data import dataloader

from ...trace.schema import BAD
from ..attach import wrap_function
from ..autopsy.incidents import Alarms
from ..frames import user_place
from ..incident import Place
from ..nested import tensors
from ..run import BadTensor, Run
from ..stats import is_countable, measurable, measure, measure_integers

IGNORED = -100  # the label that torch's losses leave out by default


def install(run: Run, alarms: Alarms) -> None:
    recorder = run.recorder
    numbers: dict[int, int] = {}  # id of a data set -> its number
    begun: dict[int, int] = {}  # iterations begun over it

    def drawing(iterator: Any) -> None:
        number = numbers.setdefault(id(iterator._dataset), len(numbers))
        if iterator._num_yielded == 0:
            begun[number] = begun.get(number, 0) + 1
            recorder.value("epoch", recorder.subject(f"loader.{number}", "loader"), 1.0)
        recorder.epoch = begun[number] - 1  # of the loader that is drawn from: the validation loader counts for itself

    def drawn(batch: Any, iterator: Any) -> None:
        run.bad_data.clear()
        run.loader_seen = True
        if not recorder.governor.whole:
            alarms.drawn_without_backward()
        for path, tensor in tensors(batch):
            record(run, path, tensor)

    wrap_function(
        [dataloader._BaseDataLoaderIter], "__next__", recorder.guard("data", drawing), recorder.guard("data", drawn)
    )


def record(run: Run, path: str, tensor: Tensor) -> None:
    recorder = run.recorder
    if measurable(tensor):
        subject = recorder.subject(path, "batch")
        if tensor.device.type != "cpu":
            recorder.add_later("batch", subject, tensor)
            return
        stats = measure(tensor)
        recorder.add("batch", subject, stats, tensor, BAD if stats.bad else 0)
        if stats.bad:
            first, kind = recorder.nonfinite_detail(subject, tensor)
            run.bad_data.append(find_bad(tensor, path, first, kind, "batch"))
    elif is_countable(tensor):
        low, high, _ = measure_integers(tensor)
        ignored = float((tensor == IGNORED).sum()) if low < 0 else 0.0
        recorder.add("labels", recorder.subject(path, "batch"), (low, high, ignored), tensor)


def find_bad(tensor: Tensor, path: str, first: int, kind: str, source: str, root: str | None = None) -> BadTensor:
    """Row and index within the row of the flat index `first`; the line that drew or passed it."""
    width = max(tensor.numel() // max(tensor.shape[0] if tensor.dim() else 1, 1), 1)
    place = user_place() if source == "batch" else Place()
    return BadTensor(
        path, first // width, first % width, kind, place, source, str(tensor.dtype).removeprefix("torch."), root
    )
